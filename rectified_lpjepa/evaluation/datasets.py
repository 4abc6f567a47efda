"""Open a data set by a short name, at the image size of a model."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rectified_lpjepa.data import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    DigitsDataModule,
    ImageFolderDataModule,
    NpzDataModule,
    TorchvisionDataModule,
    TwoViewDataModule,
)
from rectified_lpjepa.data.folder import UnsplitFolderDataModule
from rectified_lpjepa.data.torchvision_sets import TorchvisionName
from rectified_lpjepa.evaluation.extraction import is_first

NAMES = ("digits", "cifar10", "cifar100", *get_args(TorchvisionName))
"""The data sets that have a name of their own."""


@dataclass(frozen=True)
class DataSource:
    """Where named data sets lie, and how they are read.

    Args:
        root: folder that holds the data sets of torchvision.
        download: fetch a data set of torchvision into ``root`` if it is not there. The first process does it; start
            several of them by torchrun or srun when it is there.
    """

    root: str = "datasets"
    download: bool = False

    def open(self, name: str, *, image_size: int, seed: int = 0) -> TwoViewDataModule:
        """Open a data set.

        Args:
            name: one of :data:`NAMES`, the path of an ``.npz`` file, or that of a folder with ``train/<class>/`` and
                ``val/<class>/``, or with ``<class>/`` alone, which has a test split only.
            image_size: side of the images in pixels; they are resized to it.
            seed: of the views.

        Raises:
            FileNotFoundError: the data set is not where it should be.
            ValueError: the name is none of these.
        """
        data = self._make(name, {"image_size": image_size, "seed": seed})
        if self.download and is_first():
            data.prepare_data()
        return data

    def _make(self, name: str, kwargs: dict[str, Any]) -> TwoViewDataModule:
        match name:
            case "digits":
                return DigitsDataModule(**kwargs)
            case "cifar10":
                return CIFAR10DataModule(self.root, self.download, **kwargs)
            case "cifar100":
                return CIFAR100DataModule(self.root, self.download, **kwargs)
            case "dtd" | "flowers102" | "food101" | "pets":
                return TorchvisionDataModule(name, self.root, self.download, **kwargs)
        if Path(name).suffix == ".npz":
            return NpzDataModule(name, **kwargs)
        if Path(name).is_dir():
            has_splits = (Path(name) / "train").is_dir()
            return (ImageFolderDataModule if has_splits else UnsplitFolderDataModule)(name, **kwargs)
        if Path(name).name != name:
            raise FileNotFoundError(f"There is no folder {Path(name).absolute()}, and `{name}` is no .npz file.")
        near = difflib.get_close_matches(name, NAMES, n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Choose one of {', '.join(NAMES)}."
        raise ValueError(
            f"There is no data set {name!r}: it is no .npz file, no folder, and no known name. HINT: {hint}"
        )


def has_training_split(data: TwoViewDataModule) -> bool:
    """Say whether a data set has a training split: a folder of classes alone is a test split as a whole."""
    return not isinstance(data, UnsplitFolderDataModule)


def data_name(data: TwoViewDataModule) -> str:
    """Return a short name for file names and metrics: of the file, of the folder, or of the data set."""
    if isinstance(data, NpzDataModule):
        return data.path.stem
    if isinstance(data, ImageFolderDataModule):
        return data.root.resolve().name
    if isinstance(data, TorchvisionDataModule):
        return data.dataset
    return type(data).__name__.removesuffix("DataModule").lower()
