"""Images a second that one core reads from JPEG files for training, against PIL and torchvision's transforms.

rectified-lpjepa benchmark reader --data FOLDER
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, TypeVar

import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images
from torch import Tensor

from rectified_lpjepa.benchmarks.measure import Spread, threads, time_in_turn
from rectified_lpjepa.benchmarks.report import Cell, report
from rectified_lpjepa.benchmarks.torchvision_recipe import torchvision_recipe
from rectified_lpjepa.data.augmentations import Augmentation, ViewParameters, colour
from rectified_lpjepa.data.decoding import read_image
from rectified_lpjepa.data.image_files import FolderImages
from rectified_lpjepa.data.listing import list_classes
from rectified_lpjepa.data.prepare import prepare

T = TypeVar("T")

SIDE = 224
VIEWS = 2
RECIPE = Augmentation(blur=0.5)
BASELINE = (
    "one core; open a file with PIL, then for each of two views torchvision v2 on PIL images, bicubic and to float: "
    f"{RECIPE}. "
    "reader: what a core of the host does for two views, from the file to two crops of bytes; "
    "full decoding: the same without JPEGs decoded at a smaller scale; "
    "reader + colour: and all else of the recipe, which belongs to the device, on the same core"
)
LARGE = 4
"""Enlargement of the images that stand for a camera's: two thousand pixels wide."""
LARGE_IMAGES = 20
LARGE_QUALITY = 90

_SHAPES = ((500, 375), (375, 500), (500, 333), (333, 500), (500, 400), (400, 300), (500, 500), (320, 240))
_QUALITY = 96  # about as many bytes a pixel as ILSVRC's


class FullDecoding(FolderImages):
    """The reader without scaled decoding."""

    jpeg_scales: ClassVar[tuple[int, ...]] = (1,)


def baseline(images: FolderImages) -> None:
    """Make the views of every image by torchvision on PIL images."""
    recipe = torchvision_recipe(RECIPE, SIDE)
    for path in images.paths():
        with Image.open(images.root / path) as file:
            image = file.convert("RGB")
        for _ in range(VIEWS):
            recipe(image)


def read_views(images: FolderImages, parameters: ViewParameters) -> Tensor:
    """Cut the views of every image, as a worker of the loader does."""
    [crops] = images.read_training(torch.arange(len(images.labels)), [(parameters, SIDE)])
    return crops


def read_and_colour(images: FolderImages, parameters: ViewParameters) -> None:
    """And do the device's part."""
    colour(read_views(images, parameters), parameters)


def reader(data: str | None = None, images: int = 200, repeats: int = 5, out: str = "runs/benchmarks") -> None:
    """Time how many images one core reads in a second: two views of 224 pixels of each, from JPEG files.

    Args:
        data: folder of JPEG files, at any depth; by default JPEGs made from scikit-learn's two sample photographs,
            in the usual sizes of ILSVRC's.
        images: take at most so many files, evenly spaced over the sorted list of all.
        repeats: rounds that count.
        out: folder for the JSON file.

    Raises:
        ValueError: ``images`` is below 1, or ``data`` has no JPEG files.
        FileNotFoundError: there is no folder ``data``.
    """
    if images < 1:
        raise ValueError(f"You set `--images {images}`. At least 1 file must be read.")
    given = None if data is None else _jpeg_files(data)
    with TemporaryDirectory() as folder, threads(1):
        place = Path(folder)
        files = _jpeg_files(str(_write_sample(place / "sample"))) if given is None else given
        kinds = {"as stored": _link(_evenly_spaced(files, images), place / "tree")}
        kinds["longest side 320"] = _shrink(place / "tree", place / "prepared")
        kinds[f"enlarged {LARGE} ×"] = _enlarge(kinds["as stored"], place / "large")
        rows = [row for kind, root in kinds.items() for row in _rows(kind, root, repeats)]
        source = "scikit-learn's two photographs in the sizes of ILSVRC's" if data is None else data
        report("reader", f"{BASELINE}. Images: {source}", rows, device="cpu", out=out)


def _rows(kind: str, root: Path, repeats: int) -> Iterator[dict[str, Cell]]:
    files = list_classes(root, ["."])["."]
    labels = torch.zeros(len(files), dtype=torch.int64)
    images, full = FolderImages(root, files, labels, SIDE), FullDecoding(root, files, labels, SIDE)
    # The recipe's own random numbers, so that the shares of blurred views and of small crops are the usual ones.
    parameters = RECIPE.draw(VIEWS, len(files), generator=torch.Generator().manual_seed(0))
    sides: dict[str, Callable[[], object]] = {
        "baseline": partial(baseline, images),
        "reader": partial(read_views, images, parameters),
        "full decoding": partial(read_views, full, parameters),
        "reader + colour": partial(read_and_colour, images, parameters),
    }
    timings = time_in_turn(sides, repeats=repeats)
    for side in sides:
        speeds = Spread.of([len(files) / seconds for seconds in timings.rounds[side]])
        ratio = timings.ratio("baseline", side)
        yield {"images": kind, "files": len(files), "side": side, "images/s": speeds, "× baseline": ratio}


def _write_sample(folder: Path) -> Path:
    for number, photograph in enumerate(load_sample_images().images):
        path = folder / f"photograph{number}"
        path.mkdir(parents=True)
        for shape in _SHAPES:
            image = ImageOps.fit(Image.fromarray(photograph), shape, Image.Resampling.BICUBIC)
            image.save(path / f"{shape[0]}x{shape[1]}.JPEG", quality=_QUALITY)
    return folder


def _jpeg_files(folder: str) -> list[Path]:
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f"You set `--data {folder}`, but there is no such folder. HINT: give a folder of JPEGs."
        )
    files = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith((".jpg", ".jpeg")) and not name.startswith(".")
    )
    if not files:
        raise ValueError(
            f"You set `--data {folder}`, but no file in it ends in .jpg, .jpeg or .JPEG. HINT: give a folder of JPEGs."
        )
    return files


def _evenly_spaced(items: Sequence[T], most: int) -> list[T]:
    count = min(most, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def _link(files: list[Path], tree: Path) -> Path:
    """Make a data set whose training split is these files, with one of them for validation; return the former."""
    for split, chosen in (("train", files), ("val", files[:1])):
        (tree / split).mkdir(parents=True)
        for number, file in enumerate(chosen):
            (tree / split / f"{number:07}{file.suffix}").symlink_to(file.absolute())
    return tree / "train"


def _shrink(tree: Path, prepared: Path) -> Path:
    """Make the files that ``rectified-lpjepa prepare`` makes of these."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # what goes wrong it raises
        prepare(str(tree), str(prepared), longest=320)
    return prepared / "train"


def _enlarge(root: Path, folder: Path) -> Path:
    folder.mkdir()
    for number, path in enumerate(_evenly_spaced(list_classes(root, ["."])["."], LARGE_IMAGES)):
        image = read_image(root / path)
        large = image.resize((LARGE * image.width, LARGE * image.height), Image.Resampling.BICUBIC)
        large.save(folder / f"{number}.JPEG", quality=LARGE_QUALITY)
    return folder
