"""How sparse features are. Shapes: (..., D), one row of D features for each sample."""

from __future__ import annotations

import torch
from torch import Tensor

from rectified_lpjepa.functional.precision import at_least_float32


def l0_sparsity(z: Tensor) -> Tensor:
    """Compute the mean fraction of non-zero features, m_ℓ0 = mean over rows of ‖z‖₀ / D.

    Args:
        z: features (..., D), floating point.

    Returns:
        Scalar in [0, 1], float32 (float64 for float64 features): 0 all zero, 1 dense.
    """
    return (z != 0).sum(dtype=at_least_float32(z)) / z.numel()


def l1_sparsity(z: Tensor) -> Tensor:
    """Compute the mean share of effectively active features, m_ℓ1 = mean over rows of (‖z‖₁ / ‖z‖₂)² / D.

    Args:
        z: features (..., D), floating point.

    Returns:
        Scalar, float32 (float64 for float64 features), from 1/D (one-hot rows) to 1 (rows of constant magnitude). A row
        of zeros counts 0.
    """
    magnitudes = z.to(at_least_float32(z)).abs()
    # The ratio does not depend on the scale: divided by their maximum, tiny features do not vanish when squared.
    largest = magnitudes.detach().amax(-1, keepdim=True)
    scaled = magnitudes / torch.where(largest > 0, largest, 1.0)
    ratio = scaled.sum(-1).square() / scaled.square().sum(-1).clamp_min(1.0)
    return ratio.mean() / z.shape[-1]
