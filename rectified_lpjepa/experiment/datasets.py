"""Small labelled data sets that are made without a download, for evaluations on other data than a model's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from rectified_lpjepa.commands import nearest
from rectified_lpjepa.data.digits import scanned_digits
from rectified_lpjepa.data.photographs import photograph_tiles
from rectified_lpjepa.files import atomic_write


def photo_patches() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Cut scikit-learn's two photographs, of a temple and of a flower, into patches.

    Returns:
        Images (520, 32, 32, 3), and which photograph each is from.
    """
    tiles = photograph_tiles()
    return tiles, np.repeat(np.arange(2), len(tiles) // 2)


def turned_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Turn scikit-learn's scanned digits by a right angle.

    Returns:
        Images (1797, 8, 8), and the digits.
    """
    images, labels = scanned_digits()
    return np.ascontiguousarray(np.rot90(images, axes=(1, 2))), labels


DATASETS: dict[str, Callable[[], tuple[NDArray[np.uint8], NDArray[np.int64]]]] = {
    "photo_patches": photo_patches,
    "turned_digits": turned_digits,
}


def make_datasets(names: Sequence[str], folder: Path) -> dict[str, str]:
    """Write data sets as ``<folder>/<name>.npz`` where they are not there; a fifth of each class is for testing.

    Args:
        names: of the data sets, see :data:`DATASETS`.
        folder: to write to.

    Returns:
        The path of each by its name.

    Raises:
        ValueError: there is no data set of a name.
    """
    check_datasets(names)
    paths = {}
    for name in names:
        path = folder / f"{name}.npz"
        if not path.exists():
            images, labels = DATASETS[name]()
            parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
            with atomic_write(path) as file:
                np.savez_compressed(file, **dict(zip(("x_train", "x_test", "y_train", "y_test"), parts, strict=True)))
        paths[name] = str(path)
    return paths


def check_datasets(names: Iterable[str]) -> None:
    """Raise a ValueError where there is no data set of a name."""
    for name in names:
        if name not in DATASETS:
            raise ValueError(
                f"There is no data set {name!r} to be made; known are {', '.join(DATASETS)}.{nearest(name, DATASETS)}"
            )
