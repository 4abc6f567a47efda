"""Tiles of scikit-learn's two photographs, of a temple and of a flower: colour images without a download."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

TILE = 32
"""Side of a tile in pixels, as of CIFAR's images."""


def photograph_tiles() -> NDArray[np.uint8]:
    """Cut both photographs into tiles that do not overlap.

    Returns:
        (520, 32, 32, 3): the tiles of the first photograph row by row, then as many of the second.
    """
    photographs: NDArray[np.uint8] = np.stack(load_sample_images().images)
    count, height, width, channels = photographs.shape
    rows, columns = height // TILE, width // TILE
    grid = photographs[:, : rows * TILE, : columns * TILE].reshape(count, rows, TILE, columns, TILE, channels)
    return grid.swapaxes(2, 3).reshape(-1, TILE, TILE, channels)
