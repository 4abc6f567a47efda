"""Which data sets lie in a folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

_TORCHVISION = {
    "cifar-10-batches-py": "cifar10",
    "cifar-100-python": "cifar100",
    "dtd": "dtd",
    "flowers-102": "flowers102",
    "food-101": "food101",
    "oxford-iiit-pet": "pets",
}
"""Folders that torchvision makes, and what the data sets are called here."""


def found_datasets(folder: Path) -> list[str]:
    """List the data sets of a folder, without a look at their images.

    Args:
        folder: that would be given as ``--data.root``, or that holds ``.npz`` files and image folders.

    Returns:
        Names of torchvision's sets, of ``.npz`` files with the arrays in them, and of folders that hold ``train`` and
        ``val``, in the order of the alphabet; nothing where there is no such folder.
    """
    if not folder.is_dir():
        return []
    described = (_described(path) for path in sorted(folder.iterdir()))
    return [text for text in described if text is not None]


def _described(path: Path) -> str | None:
    if path.suffix == ".npz":
        if not zipfile.is_zipfile(path):
            return f"{path.name} (damaged: it is no .npz file)"
        with zipfile.ZipFile(path) as archive:
            arrays = sorted(name.removesuffix(".npy") for name in archive.namelist())
        return f"{path.name} ({', '.join(arrays)})"
    if not path.is_dir():
        return None
    if path.name in _TORCHVISION:
        return _TORCHVISION[path.name]
    if (path / "train").is_dir() and (path / "val").is_dir():
        return f"{path.name} (train: {_folders(path / 'train')} classes, val: {_folders(path / 'val')} classes)"
    return None


def _folders(path: Path) -> int:
    return sum(child.is_dir() for child in path.iterdir())
