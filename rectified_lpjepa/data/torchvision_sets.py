"""Data sets of image files that torchvision downloads and lists, and that features are often transferred to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torchvision.datasets import DTD, Flowers102, Food101, OxfordIIITPet  # type: ignore[import-untyped]
from typing_extensions import override

from rectified_lpjepa.data.augmentations import Augmentation
from rectified_lpjepa.data.batches import Split
from rectified_lpjepa.data.image_files import FolderImages
from rectified_lpjepa.data.module import FINGERPRINT_LENGTH
from rectified_lpjepa.data.rgb import IMAGENET_MEAN, IMAGENET_STD, RGBDataModule

TorchvisionName = Literal["dtd", "flowers102", "food101", "pets"]


@dataclass(frozen=True)
class _Set:
    """What torchvision calls a data set, its parts and their contents."""

    make: Callable[..., Any]
    num_classes: int
    train: tuple[str, ...]
    files: str = "_image_files"


_SETS: dict[TorchvisionName, _Set] = {
    "dtd": _Set(DTD, 47, ("train", "val")),
    "flowers102": _Set(Flowers102, 102, ("train", "val")),
    "food101": _Set(Food101, 101, ("train",)),
    "pets": _Set(OxfordIIITPet, 37, ("trainval",), "_images"),
}


class TorchvisionDataModule(RGBDataModule):
    """Describable Textures (partition 1), Flowers-102, Food-101 or Oxford-IIIT Pets, decoded as they are needed.

    Training images are those that the field trains on before it reports test accuracy: train and val together for
    ``dtd`` (3,760 images) and ``flowers102`` (2,040), train for ``food101`` (75,750), trainval for ``pets`` (3,680).
    The test images are the test part of each. Images are cropped and resized as in
    :class:`~rectified_lpjepa.data.ImageFolderDataModule`.

    Args:
        name: which data set.
        root: folder that holds the data set's own folder, as torchvision lays it out.
        download: fetch the data set into ``root`` if it is not there.
        image_size: side of the views, and of evaluation images, in pixels.
        augmentation: the recipe of the views. By default every second one is blurred.
        num_workers: processes that decode images for each process; 0 decodes in the process itself.
        **kwargs: further arguments of :class:`~rectified_lpjepa.data.TwoViewDataModule`.

    Raises:
        ValueError: there is no data set of this name.
    """

    _mean = IMAGENET_MEAN
    _std = IMAGENET_STD

    def __init__(
        self,
        name: TorchvisionName,
        root: str = "datasets",
        download: bool = False,
        image_size: int = 224,
        augmentation: Augmentation = Augmentation(blur=0.5),
        num_workers: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size, augmentation, num_workers=num_workers, **kwargs)
        if name not in _SETS:
            raise ValueError(f"There is no data set {name!r}. Choose one of {', '.join(_SETS)}.")
        self.dataset: TorchvisionName = name
        self.root = root
        self.download = download

    @property
    @override
    def num_classes(self) -> int:
        """Number of classes."""
        return _SETS[self.dataset].num_classes

    @property
    @override
    def fingerprint(self) -> str:
        """Beginning of the SHA-256 of the name of the data set and those of its files, part by part."""
        listed = [self.dataset, *(path for split in ("train", "test") for path in self._listed[split][0])]
        return hashlib.sha256("\n".join(listed).encode()).hexdigest()[:FINGERPRINT_LENGTH]

    @override
    def facts(self) -> dict[str, str | int]:
        """Return the facts of any data set, with this one's own name."""
        return super().facts() | {"data": self.dataset}

    @override
    def prepare_data(self) -> None:
        """Download the data set if asked to; torchvision compares the checksum of what it fetched."""
        if self.download:
            _SETS[self.dataset].make(self.root, split="test", download=True)

    @cached_property
    def _listed(self) -> dict[Split, tuple[list[str], list[int]]]:
        """Paths relative to the root, and labels."""
        kind = _SETS[self.dataset]
        parts: dict[Split, tuple[str, ...]] = {"train": kind.train, "test": ("test",)}
        listed: dict[Split, tuple[list[str], list[int]]] = {}
        for split, names in parts.items():
            files: list[str] = []
            labels: list[int] = []
            for name in names:
                try:
                    part = kind.make(self.root, split=name)
                except (RuntimeError, FileNotFoundError) as error:
                    raise FileNotFoundError(
                        f"There is no {self.dataset}, or not all of it, in {Path(self.root).absolute()} ({error}). "
                        "HINT: let it be downloaded (`evaluate … --download true`, `experiment run … --download`), or "
                        "name the folder that holds it in torchvision's layout (`evaluate … --root FOLDER`, "
                        "`experiment run … --datasets FOLDER`)."
                    ) from error
                files += [os.path.relpath(path, self.root) for path in getattr(part, kind.files)]
                labels += part._labels
            listed[split] = (files, labels)
        return listed

    @override
    def load(self, split: Split) -> FolderImages:
        """List the files of a split, as torchvision does."""
        files, labels = self._listed[split]
        return FolderImages(Path(self.root), files, torch.tensor(labels, dtype=torch.int64), self.image_size)
