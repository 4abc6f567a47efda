"""Scanned handwritten digits that come with scikit-learn: real images without a download."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from typing_extensions import override

from rectified_lpjepa.data.augmentations import Augmentation
from rectified_lpjepa.data.batches import Split
from rectified_lpjepa.data.images import InMemoryImages
from rectified_lpjepa.data.module import TwoViewDataModule

_WHITE = 16  # the largest value in scikit-learn's arrays


def scanned_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read scikit-learn's digits as bytes.

    Returns:
        Images (1797, 8, 8), white on black, and the digits.
    """
    digits = load_digits()
    return np.rint(digits.images * (255 / _WHITE)).astype(np.uint8), digits.target.astype(np.int64)


class DigitsDataModule(TwoViewDataModule):
    """1,797 digits of 8 × 8 pixels in ten classes, 20 % of each class held out (always the same ones).

    Args:
        image_size: side of the views, and of evaluation images, in pixels; the stored 8 × 8 pixels are enlarged.
        augmentation: the recipe of the views. By default no mirror images, which would be other signs, and no colour.
        **kwargs: further arguments of :class:`~rectified_lpjepa.data.TwoViewDataModule`.
    """

    def __init__(
        self,
        image_size: int = 16,
        augmentation: Augmentation = Augmentation(
            crop_scale=(0.5, 1.0), flip=0.0, saturation=0.0, hue=0.0, grayscale=0.0, solarize=0.0
        ),
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size, augmentation, **kwargs)

    @property
    @override
    def num_classes(self) -> int:
        """Ten digits."""
        return 10

    @property
    @override
    def in_channels(self) -> int:
        """One channel."""
        return 1

    @property
    @override
    def mean(self) -> list[float]:
        """Mean of the training part."""
        return self._statistics[0]

    @property
    @override
    def std(self) -> list[float]:
        """Standard deviation of the training part."""
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[list[float], list[float]]:
        return self._both["train"].channel_statistics()

    @cached_property
    def _both(self) -> dict[Split, InMemoryImages]:
        stored, digits = scanned_digits()
        images, labels = torch.from_numpy(stored).unsqueeze(1), torch.from_numpy(digits)
        train, test = train_test_split(np.arange(len(digits)), test_size=0.2, stratify=digits, random_state=0)
        return {
            "train": InMemoryImages(images[train], labels[train]),
            "test": InMemoryImages(images[test], labels[test]),
        }

    @override
    def load(self, split: Split) -> InMemoryImages:
        """Take a split of the digits, uint8 (n, 1, 8, 8)."""
        return self._both[split]
