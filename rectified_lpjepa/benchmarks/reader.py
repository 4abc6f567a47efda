"""Images a second that one core reads from JPEG files for training, against PIL and torchvision's transforms.

rectified-lpjepa benchmark reader --data FOLDER
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2  # type: ignore[import-untyped]

from rectified_lpjepa.benchmarks.measure import Spread, time_in_turn
from rectified_lpjepa.benchmarks.report import Cell, report
from rectified_lpjepa.data.augmentations import Augmentation, ViewParameters, colour
from rectified_lpjepa.data.decoding import read_image
from rectified_lpjepa.data.folder import FolderImages, list_classes
from rectified_lpjepa.data.prepare import prepare

SIDE = 224
VIEWS = 2
BASELINE = (
    "one core; open a file with PIL, then RandomResizedCrop(224, (0.2, 1), bicubic), ColorJitter(0.4, 0.4, 0.2, 0.1) "
    "with p 0.8, grayscale 0.2, GaussianBlur(23, (0.1, 2)) with p 0.5, solarize 0.1, flip 0.5 and to float, by "
    "torchvision v2 on PIL images, for each of two views. "
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
    recipe = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, (0.2, 1), interpolation=InterpolationMode.BICUBIC),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(23, (0.1, 2))], 0.5),
            v2.RandomSolarize(128, 0.1),
            v2.RandomHorizontalFlip(0.5),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    for path in images.paths():
        with Image.open(images.root / path) as file:
            image = file.convert("RGB")
        for _ in range(VIEWS):
            recipe(image)


def read_views(images: FolderImages, parameters: ViewParameters) -> Tensor:
    """Cut the views of every image, as a worker of the loader does."""
    return images.read_training(torch.arange(len(images.labels)), parameters)


def read_and_colour(images: FolderImages, parameters: ViewParameters) -> None:
    """And do the device's part."""
    colour(read_views(images, parameters), parameters)


def reader(data: str | None = None, repeats: int = 5, out: str = "runs/benchmarks") -> None:
    """Time how many images one core reads in a second: two views of 224 pixels of each, from JPEG files.

    Args:
        data: folder of `<class>/*.JPEG`; by default JPEGs made from scikit-learn's two sample photographs, in the usual
            sizes of ILSVRC's.
        repeats: rounds that count.
        out: folder for the JSON file.
    """
    with TemporaryDirectory() as folder, _one_thread():
        place = Path(folder)
        kinds = {"as stored": _write_sample(place / "sample") if data is None else Path(data)}
        kinds["longest side 320"] = _shrink(kinds["as stored"], place)
        kinds[f"enlarged {LARGE} ×"] = _enlarge(kinds["as stored"], place / "large")
        rows = [row for kind, root in kinds.items() for row in _rows(kind, root, repeats)]
        source = "scikit-learn's two photographs in the sizes of ILSVRC's" if data is None else data
        report("reader", f"{BASELINE}. Images: {source}", rows, device="cpu", out=out)


def _rows(kind: str, root: Path, repeats: int) -> Iterator[dict[str, Cell]]:
    files = list_classes(root, ["."])["."]
    labels = torch.zeros(len(files), dtype=torch.int64)
    images, full = FolderImages(root, files, labels, SIDE), FullDecoding(root, files, labels, SIDE)
    # The recipe's own random numbers, so that the shares of blurred views and of small crops are the usual ones.
    parameters = Augmentation(blur=0.5).draw(VIEWS, len(files), generator=torch.Generator().manual_seed(0))
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


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _write_sample(folder: Path) -> Path:
    for number, photograph in enumerate(load_sample_images().images):
        path = folder / f"photograph{number}"
        path.mkdir(parents=True)
        for shape in _SHAPES:
            image = ImageOps.fit(Image.fromarray(photograph), shape, Image.Resampling.BICUBIC)
            image.save(path / f"{shape[0]}x{shape[1]}.JPEG", quality=_QUALITY)
    return folder


def _shrink(root: Path, place: Path) -> Path:
    """Make the files that ``rectified-lpjepa prepare`` makes of these."""
    tree = place / "tree"
    tree.mkdir()
    for split in ("train", "val"):
        (tree / split).symlink_to(root.absolute(), target_is_directory=True)
    prepare(str(tree), str(place / "prepared"), longest=320)
    return place / "prepared" / "train"


def _enlarge(root: Path, folder: Path) -> Path:
    folder.mkdir()
    for number, path in enumerate(list_classes(root, ["."])["."][:LARGE_IMAGES]):
        image = read_image(root / path)
        large = image.resize((LARGE * image.width, LARGE * image.height), Image.Resampling.BICUBIC)
        large.save(folder / f"{number}.JPEG", quality=LARGE_QUALITY)
    return folder
