"""What data sets of colour images have in common."""

from __future__ import annotations

from typing_extensions import override

from rectified_lpjepa.data.module import TwoViewDataModule

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue in ImageNet, for images in [0, 1]: the constants that the literature uses."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""


class RGBDataModule(TwoViewDataModule):
    """The base of data modules of colour images that are normalised by constants, ``_mean`` and ``_std``."""

    _mean: tuple[float, float, float]
    _std: tuple[float, float, float]

    @property
    @override
    def in_channels(self) -> int:
        """Red, green, blue; grey images are given three equal channels."""
        return 3

    @property
    @override
    def mean(self) -> list[float]:
        """Mean of each channel, for images in [0, 1]: a constant of the data set, or as given."""
        return list(self._mean)

    @property
    @override
    def std(self) -> list[float]:
        """Standard deviation of each channel, for images in [0, 1]: a constant of the data set, or as given."""
        return list(self._std)
