"""Variance and covariance terms of VICReg (arXiv 2105.04906).

Shape suffixes: V views, B samples, D features, F features of a share.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rectified_lpjepa.functional.precision import at_least_float32, full_precision, matmul

_EPS = 1e-4


def variance_hinge(z_VBD: Tensor, features: range | None = None) -> Tensor:
    """Compute how far the standard deviation of the features is below 1 (arXiv 2105.04906, Eqs. 1 and 2, γ = 1).

        sum over views of 1/D · Σ_d max(0, 1 − √(Var(z_d) + 1e-4)),

    the variance being the unbiased one. In float32, or float64 for float64 features, also under autocast.

    Args:
        z_VBD: features (V, B, D) of the global batch, floating point, of at least two samples.
        features: the features d to sum over, for a share of the work; None for all. The values of all shares add up.

    Returns:
        Scalar from 0 to V, differentiable.

    Raises:
        ValueError: if there are fewer than two samples.
    """
    _check_batch(z_VBD)
    _, batch, dim = z_VBD.shape
    with full_precision(z_VBD.device):
        z_VBF = z_VBD.to(at_least_float32(z_VBD))[:, :, _cut(features)]
        # Not Tensor.var, which warns of a share without features.
        variance_VF = (z_VBF - z_VBF.mean(1, keepdim=True)).square().sum(1) / (batch - 1)
        return (1 - (variance_VF + _EPS).sqrt()).relu().sum() / dim


def covariance_penalty(z_VBD: Tensor, features: range | None = None) -> Tensor:
    """Compute the squared covariances between different features (arXiv 2105.04906, Eqs. 3 and 4).

        sum over views of 1/D · Σ_{d ≠ d'} Cov(z_d, z_d')²,

    the covariance being the unbiased one. In float32, or float64 for float64 features, also under autocast.

    Args:
        z_VBD: features (V, B, D) of the global batch, floating point, of at least two samples.
        features: the rows d of the covariance matrix to sum over, for a share of the work; None for all. The values of
            all shares add up.

    Returns:
        Scalar ≥ 0, differentiable.

    Raises:
        ValueError: if there are fewer than two samples.
    """
    _check_batch(z_VBD)
    _, batch, dim = z_VBD.shape
    rows = _cut(features)
    with full_precision(z_VBD.device):
        z_VBD = z_VBD.to(at_least_float32(z_VBD))
        centred_VBD = z_VBD - z_VBD.mean(1, keepdim=True)
        covariance_VFD = matmul(centred_VBD[:, :, rows].mT, centred_VBD) / (batch - 1)
        is_variance_FD = torch.eye(dim, dtype=torch.bool, device=z_VBD.device)[rows]
        return covariance_VFD.masked_fill(is_variance_FD, 0).square().sum() / dim


def _cut(features: range | None) -> slice:
    return slice(None) if features is None else slice(features.start, features.stop)


def _check_batch(z_VBD: Tensor) -> None:
    if z_VBD.ndim != 3 or z_VBD.shape[1] < 2:
        raise ValueError(
            f"Variances need features (V, B, D) of at least 2 samples, got shape {tuple(z_VBD.shape)}. HINT: raise the "
            "batch size."
        )
