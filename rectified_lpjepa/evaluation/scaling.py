"""Standardise features by the mean and the standard deviation of the training samples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Standardizer(NamedTuple):
    """What is taken from each feature, and by what it is divided then.

    Attributes:
        mean: (F,).
        scale: standard deviation (F,), 1 for a feature that never varies.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standardizer:
        """Measure features (N, F), on whose device the rest is done."""
        variance, mean = torch.var_mean(features.double(), dim=0, correction=0)
        # Rounding leaves a constant feature a variance of about the square of the last digit of its mean.
        is_constant = variance <= (1e-7 * mean).square()
        return cls(mean.float(), variance.sqrt().masked_fill(is_constant, 1.0).float())

    def __call__(self, features: Tensor) -> Tensor:
        """Standardise features (N, F), wherever they are: float32 (N, F) on the device of the statistics."""
        return (features.to(self.mean.device) - self.mean) / self.scale
