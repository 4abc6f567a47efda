"""The command ``rectified-lpjepa prepare``: shrink the images of a data set once, so that every epoch reads less."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image
from tqdm import tqdm

from rectified_lpjepa.data.batches import Split
from rectified_lpjepa.data.decoding import EncodedImage
from rectified_lpjepa.data.folder import ImageFolderDataModule
from rectified_lpjepa.data.imagenet100 import ImageNet100DataModule
from rectified_lpjepa.data.prepared import PreparedFolder, Settings
from rectified_lpjepa.files import atomic_write
from rectified_lpjepa.machine import available_cores

_FOLDERS: dict[str, Split] = {"train": "train", "val": "test"}
_IMAGES_A_TASK = 8  # what a process is given, and finishes, at a time
_KEPT_FORMATS = ("PNG", "PPM", "BMP", "TIFF", "WEBP")  # all else becomes JPEG


def prepare(
    source: str,
    out: str,
    longest: int | None = None,
    shortest: int | None = None,
    quality: int = 95,
    classes: Literal["imagenet100"] | None = None,
    num_workers: int | None = None,
) -> None:
    """Shrink the images of a folder data set, train/<class>/ and val/<class>/, into a folder of the same names.

    Larger images are resized by Pillow's bicubic kernel, the one of the views, and saved in their own format (JPEG with
    colours at half resolution, as usual; formats other than JPEG, PNG, PPM, BMP, TIFF and WebP as JPEG); smaller ones
    are copied byte for byte. EXIF rotation is not applied and not kept. Every file is decoded again once it is written.
    The same command goes on where it was stopped, and checks what was done before; `prepared.json` in the new folder
    says how it was made, once all is done.

    Args:
        source: folder that holds train and val.
        out: folder to write to, which may hold what a stopped run has done.
        longest: length in pixels to which a longer side above it is brought; give this or `shortest`.
        shortest: length in pixels to which a shorter side above it is brought; give this or `longest`.
        quality: JPEG (and WebP) quality, 1 to 100.
        classes: take only the classes of this list, whose number of images must be the published one; by default all.
        num_workers: processes that work; by default one for each core.

    Raises:
        ValueError: an option is out of its range, the folder holds something else, or it cannot be written.
        FileNotFoundError: the source has another structure.
        SystemExit: status 1, with a list of the images that cannot be decoded.
    """
    limit = longest if longest is not None else shortest
    if limit is None or (longest is not None and shortest is not None):
        raise ValueError(f"longest is {longest} and shortest is {shortest}. Give exactly one of them, in pixels.")
    workers = available_cores() if num_workers is None else num_workers
    for name, value, highest in (("side", limit, 65_535), ("quality", quality, 100), ("num_workers", workers, 1024)):
        if not 1 <= value <= highest:
            raise ValueError(f"{name} is {value}. It must lie between 1 and {highest}.")
    old, new = Path(source).resolve(), Path(out).resolve()
    if old.is_relative_to(new) or new.is_relative_to(old):
        raise ValueError(f"source is {old} and out is {new}. They must lie beside each other, not one in the other.")

    settings = Settings(str(old), longest, shortest, quality, classes)
    paths = _image_paths(old, classes)
    _claim(new, settings)
    try:
        results = _prepare_images(partial(_prepare_image, old, new, settings), paths, workers)
    except (OSError, BrokenProcessPool) as error:
        raise ValueError(
            f"Writing to {new} failed ({error}). What is done is kept: make room on the disk, or give fewer "
            "`--num_workers` where memory was short, then run the same command again."
        ) from error
    if problems := [result.problem for result in results if result.problem]:
        raise SystemExit(
            f"{len(problems)} of {len(paths):,} images are not prepared:\n  "
            + "\n  ".join(problems)
            + "\nAll others are kept. Mend the source, then run the same command again: only these are left to do."
        )
    if surplus := sorted(set(_image_paths(new, classes)) - set(paths)):
        raise ValueError(
            f"{new} has {len(surplus)} image(s) that {old} does not have, such as {surplus[0]}. Delete them, then run "
            "the same command again."
        )
    record = _finished_record(settings, paths, results)
    record.write(new)
    done = Counter(result.action for result in results)
    print(  # noqa: T201
        f"{new}: {', '.join(f'{count:,} images in {folder}' for folder, count in (record.counts or {}).items())} "
        f"({', '.join(f'{count:,} {action}' for action, count in done.items())}), all verified"
    )


class _Result(NamedTuple):
    """What became of one image: the SHA-256 of the new file, or why there is none."""

    action: str
    sha256: str = ""
    problem: str = ""


def _image_paths(root: Path, classes: str | None) -> list[str]:
    """List the images of both splits as the data module sees them, relative to ``root``, with forward slashes."""
    module = (ImageFolderDataModule if classes is None else ImageNet100DataModule)(str(root))
    files = {folder: module.files(split) for folder, split in _FOLDERS.items()}
    return [f"{folder}/{Path(path).as_posix()}" for folder in files for of in files[folder].values() for path in of]


def _claim(new: Path, settings: Settings) -> None:
    """Note in the folder what is being made there; refuse a folder that holds anything else."""
    record = PreparedFolder.read(new)
    if record is None and new.exists() and any(new.iterdir()):
        raise ValueError(f"{new} holds files that this command has not made. Choose a folder that is new or empty.")
    if record is not None and record.settings != settings:
        given = asdict(settings)
        changes = [f"{key}: {old} → {given[key]}" for key, old in asdict(record.settings).items() if old != given[key]]
        raise ValueError(
            f"{new} is made with other settings. Stored → given:\n  "
            + "\n  ".join(changes)
            + "\nChoose another folder, or give the stored settings."
        )
    PreparedFolder(settings).write(new)


def _prepare_images(work: Callable[[str], _Result], paths: list[str], workers: int) -> list[_Result]:
    executor = ProcessPoolExecutor(workers, initializer=_leave_stopping_to_the_parent)
    try:
        results = executor.map(work, paths, chunksize=_IMAGES_A_TASK)
        return list(tqdm(results, total=len(paths), unit=" images"))
    finally:
        executor.shutdown(cancel_futures=True)  # after an error or Ctrl-C: finish what is in hand, begin nothing


def _leave_stopping_to_the_parent() -> None:
    """Let Ctrl-C, which reaches every process of a terminal, stop the parent only; end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _prepare_image(old: Path, new: Path, settings: Settings, path: str) -> _Result:
    target = new / path
    try:
        image = EncodedImage(old / path)
        size = _new_size(image.width, image.height, settings)
        if sha256 := _verify(target, image, size):
            return _Result("done before", sha256)
        pixels = image.to_pil()
    except ValueError as error:
        return _Result("failed", problem=str(error))
    copied = size == (image.width, image.height)
    with atomic_write(target) as file:
        file.write(image.encoded if copied else _shrink(pixels, size, image.format, settings.quality))
    sha256 = _verify(target, image, size)
    if sha256 is None:
        return _Result("failed", problem=f"The file {target} does not read back as it was written. Check the disk.")
    return _Result("copied" if copied else "shrunk", sha256)


def _new_size(width: int, height: int, settings: Settings) -> tuple[int, int]:
    if settings.longest is not None:
        factor = settings.longest / max(width, height)
    else:
        assert settings.shortest is not None
        factor = settings.shortest / min(width, height)
    return (width, height) if factor >= 1 else (max(1, round(width * factor)), max(1, round(height * factor)))


def _shrink(image: Image.Image, size: tuple[int, int], format_: str | None, quality: int) -> bytes:
    encoded = BytesIO()
    small = image.resize(size, Image.Resampling.BICUBIC)
    # What else the original says of itself, such as how a TIFF is compressed, is no business of the new file.
    small.info = {}
    kept = format_ if format_ in _KEPT_FORMATS else "JPEG"
    small.save(encoded, kept, **({"quality": quality} if kept in ("JPEG", "WEBP") else {}))
    return encoded.getvalue()


def _verify(target: Path, original: EncodedImage, size: tuple[int, int]) -> str | None:
    """Decode a finished file: its SHA-256, or None if it is not there or not what it should be."""
    if not target.is_file():
        return None
    try:
        found = EncodedImage(target)
        found.decode()
    except ValueError:
        return None
    copied = size == (original.width, original.height)
    if (found.width, found.height) != size or (copied and found.encoded != original.encoded):
        return None
    return hashlib.sha256(found.encoded).hexdigest()


def _finished_record(settings: Settings, paths: list[str], results: list[_Result]) -> PreparedFolder:
    counts = {folder: sum(path.startswith(f"{folder}/") for path in paths) for folder in _FOLDERS}
    content = hashlib.sha256()
    for path, result in sorted(zip(paths, results, strict=True)):
        content.update(f"{result.sha256}  ".encode() + os.fsencode(path) + b"\n")
    return PreparedFolder(settings, counts, content.hexdigest())
