"""Augmented views, made in batches by us and one image at a time by torchvision on PIL images.

rectified-lpjepa benchmark views --data cifar100.npz
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric.utilities import move_data_to_device
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from rectified_lpjepa.benchmarks.measure import Spread, Timings, choose_device, threads, time_in_turn
from rectified_lpjepa.benchmarks.report import Cell, report
from rectified_lpjepa.benchmarks.torchvision_recipe import torchvision_recipe
from rectified_lpjepa.data import Augmentation
from rectified_lpjepa.data.augmentations import augment
from rectified_lpjepa.data.photographs import photograph_tiles
from rectified_lpjepa.machine import available_cores

SIDE = 32
VIEWS = 2
WORKERS = 16
_CUDA_BATCHES = 64  # of a timed pass on CUDA, so that all workers are busy for most of it

Bytes = npt.NDArray[np.uint8]


def views(
    data: str | None = None, batch_size: int = 256, repeats: int = 7, device: str = "auto", out: str = "runs/benchmarks"
) -> None:
    """Time the CIFAR-100 recipe of two views of each image against torchvision's on PIL images.

    On a CPU both sides run on one core, and ours once more on all threads. On CUDA the baseline has a DataLoader with
    sixteen workers (or as many as there are cores), and our images lie on the device.

    Args:
        data: ``.npz`` file with ``x_train``, uint8 (n, 32, 32, 3); without it, tiles of scikit-learn's two photographs.
        batch_size: images of a batch.
        repeats: rounds that count.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is a GPU.
        out: folder for the JSON file.

    Raises:
        ValueError: ``x_train`` has another type or shape, or fewer images than a batch.
    """
    place = choose_device(device)
    images = photograph_tiles() if data is None else read_images(data)
    if len(images) < batch_size:
        raise ValueError(f"There are {len(images)} images, too few for a batch of {batch_size}. Lower `batch_size`.")
    row = (_on_cuda if place.type == "cuda" else _on_cpu)(images, batch_size, repeats, place)
    source = "scikit-learn's photographs" if data is None else data
    rows: list[dict[str, Cell]] = [{"images": source, "batch": batch_size, **row}]
    workers = f"{_workers()} worker processes" if place.type == "cuda" else "one core"
    baseline = f"torchvision.transforms.v2 on PIL images, one image and view at a time, on {workers}"
    report("views", baseline, rows, device=place, out=out)


def read_images(path: str) -> Bytes:
    """Read ``x_train`` of an ``.npz`` file, uint8 (n, 32, 32, 3), without unpickling anything."""
    with np.load(path, allow_pickle=False) as arrays:
        images: Bytes = arrays["x_train"]
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE, 3):
        raise ValueError(
            f"{path}: x_train is {images.dtype} {images.shape}. Expected uint8 (n, {SIDE}, {SIDE}, 3), as CIFAR-100's."
        )
    return images


class PILViews(Dataset[tuple[Tensor, ...]]):
    """The views of PIL images, made one by one."""

    def __init__(self, images: Bytes, length: int) -> None:
        self.images = [Image.fromarray(image) for image in images]
        self.length = length
        self.transform = torchvision_recipe(Augmentation(), SIDE)

    def __len__(self) -> int:
        """Count the images of a pass, which may take the same ones again."""
        return self.length

    @override
    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        image = self.images[index % len(self.images)]
        return tuple(self.transform(image) for _ in range(VIEWS))


class BatchedViews:
    """Our views of images that lie on a device as bytes; the random numbers are drawn anew for each batch."""

    def __init__(self, images: Bytes, batch_size: int, device: torch.device) -> None:
        self.images = torch.from_numpy(images[:batch_size].copy()).permute(0, 3, 1, 2).contiguous().to(device)
        self.recipe = Augmentation()
        self.generator = torch.Generator().manual_seed(0)

    def make(self) -> Tensor:
        """Make the views of a batch: float32 (V, B, 3, 32, 32)."""
        parameters = self.recipe.draw(VIEWS, len(self.images), generator=self.generator)
        return augment(self.images, move_data_to_device(parameters, self.images.device), SIDE)


def _on_cpu(images: Bytes, batch_size: int, repeats: int, device: torch.device) -> dict[str, Cell]:
    ours = BatchedViews(images, batch_size, device)
    theirs = PILViews(images[:batch_size], batch_size)
    all_threads = torch.get_num_threads()

    def baseline() -> list[Tensor]:
        with threads(1):
            return [torch.stack(view) for view in zip(*(theirs[index] for index in range(batch_size)), strict=True)]

    def one_core() -> Tensor:
        with threads(1):
            return ours.make()

    timings = time_in_turn(
        {"baseline": baseline, "ours": one_core, "all threads": ours.make}, repeats=repeats, device=device
    )
    return {
        "baseline images/s": _rate(timings, "baseline", batch_size),
        "ours images/s": _rate(timings, "ours", batch_size),
        f"ours on {all_threads} threads": _rate(timings, "all threads", batch_size),
        "ours / baseline": timings.ratio("baseline", "ours"),
    }


def _on_cuda(images: Bytes, batch_size: int, repeats: int, device: torch.device) -> dict[str, Cell]:
    ours = BatchedViews(images, batch_size, device)
    count = _CUDA_BATCHES * batch_size
    loader = DataLoader(
        PILViews(images[:batch_size], count),
        batch_size,
        num_workers=_workers(),
        persistent_workers=True,
        pin_memory=True,
    )

    def baseline() -> None:
        for batch in loader:
            move_data_to_device(batch, device)

    def batched() -> None:
        for _ in range(_CUDA_BATCHES):
            ours.make()

    timings = time_in_turn({"baseline": baseline, "ours": batched}, repeats=repeats, device=device)
    return {
        "baseline images/s": _rate(timings, "baseline", count),
        "ours images/s": _rate(timings, "ours", count),
        "ours / baseline": timings.ratio("baseline", "ours"),
    }


def _rate(timings: Timings, side: str, images: int) -> Spread:
    """Images per second, each of them made into all its views."""
    return Spread.of([images / seconds for seconds in timings.rounds[side]])


def _workers() -> int:
    return min(WORKERS, available_cores())
