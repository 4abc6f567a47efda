"""The three terms of VISReg: location and scale of each feature, and the shape of what remains.

Shape suffixes: V views, B samples, D features, N directions, n directions of a block.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rectified_lpjepa.functional.matching import match_
from rectified_lpjepa.functional.precision import at_least_float32, full_precision
from rectified_lpjepa.functional.randomness import Blocks
from rectified_lpjepa.functional.sliced_statistic import check_features, mean_over_directions

_EPS = 1e-4


class Standardized(NamedTuple):
    """Features whose location and scale have been taken apart, each averaged over features and views."""

    location: Tensor
    """Mean of the squared mean over the batch, scalar."""
    scale: Tensor
    """Mean of (1 − std)², scalar."""
    z: Tensor
    """(V, B, D): (z − mean) / (std + 1e-4) per view and feature, with no gradient through the standard deviation."""


def standardize(z_VBD: Tensor) -> Standardized:
    """Take location and scale of each feature apart, in float32 or float64 also under autocast.

    The standard deviation is the biased one. The gradient of the scale term vanishes where a feature is constant.

    Args:
        z_VBD: features (V, B, D) of the global batch, floating point.

    Returns:
        Two scalars and the standardised features, all differentiable.
    """
    with full_precision(z_VBD.device):
        z_VBD = z_VBD.to(at_least_float32(z_VBD))
        mean_V1D, std_V1D = z_VBD.mean(1, keepdim=True), z_VBD.std(1, correction=0, keepdim=True)
        return Standardized(
            location=mean_V1D.square().mean(),
            scale=(1 - std_V1D).square().mean(),
            z=(z_VBD - mean_V1D) / (std_V1D.detach() + _EPS),
        )


def sliced_wasserstein_to_normal(
    z: Tensor, directions: Tensor | Blocks, *, num_directions: int | None = None
) -> Tensor:
    """Compute the squared sliced 2-Wasserstein distance to fixed quantiles of the standard normal law.

    For each direction the i-th smallest of the B projections is compared with Φ⁻¹(i / (B + 1)); the squares are
    averaged over samples, directions and views. All is computed in float32, or float64 if the features are, also under
    autocast.

    Args:
        z: features (V, B, D) of the global batch, floating point.
        directions: see :func:`~rectified_lpjepa.functional.sliced_statistic.mean_over_directions`.
        num_directions: for a share of the directions: the number of all of them. The values of all shares add up to
            the whole.

    Returns:
        Scalar ≥ 0, with a gradient to the features alone, and no second derivative.

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    check_features(z)
    return 2 / z.shape[1] * mean_over_directions(z, directions, _match_to_normal_, num_directions=num_directions)


def _match_to_normal_(projected_nVB: Tensor, _: Tensor) -> Tensor:
    """Half the squared differences to the quantiles: their derivative is the differences themselves."""
    batch = projected_nVB.shape[-1]
    ranks_B = torch.arange(1, batch + 1, dtype=torch.float64, device=projected_nVB.device)
    quantiles_1B = torch.special.ndtri(ranks_B / (batch + 1)).to(projected_nVB.dtype).unsqueeze(0)
    return match_(projected_nVB, quantiles_1B) / 2
