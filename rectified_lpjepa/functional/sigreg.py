"""Sketched isotropic Gaussian regularisation: how far projected features are from the standard normal law.

Shape suffixes: V views, B samples, D features, N directions, n directions of a block, T knots.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from rectified_lpjepa.functional.randomness import Blocks
from rectified_lpjepa.functional.sliced_statistic import mean_over_directions

# Powers of a chunk of projections: on a CPU they stay in a core's cache, on a GPU they fill it with work.
_POWERS_ON_CPU, _POWERS_ON_GPU = 1 << 17, 1 << 23


def sigreg(
    z: Tensor,
    directions: Tensor | Blocks,
    *,
    knots: int = 17,
    upper: float = 3.0,
    num_directions: int | None = None,
) -> Tensor:
    """Compute the sliced Epps-Pulley statistic against N(0, 1) (SIGReg of LeJEPA, arXiv 2511.08544).

    For each direction the empirical characteristic function φ_B of the B projections is compared with that of the
    standard normal law, and the result averaged over directions and views:

        B · ∫ |φ_B(t) − exp(−t²/2)|² exp(−t²/2) dt

    The integrand is even: the trapezoid rule on [0, upper] is doubled. All is computed in float32, or float64 if the
    features are, also under autocast, and the memory does not grow with the number of directions.

    Args:
        z: features (V, B, D), floating point.
        directions: see :func:`~rectified_lpjepa.functional.sliced_statistic.mean_over_directions`.
        knots: number of points of the trapezoid rule with both ends, at least 2.
        upper: upper end of the integral > 0.
        num_directions: for a share of the directions: the number of all of them. The values of all shares add up to
            the whole.

    Returns:
        Scalar ≥ 0, with a gradient to the features alone, and no second derivative.

    Raises:
        ValueError: if the shapes do not fit each other, there are fewer than two knots, or ``upper`` is not a finite
            number above 0.
    """
    if knots < 2:
        raise ValueError(f"The trapezoid rule needs at least 2 knots, got {knots}.")
    if not (upper > 0 and math.isfinite(upper)):
        raise ValueError(f"The upper end of the integral must be a finite number above 0, got {upper}.")
    statistic_ = partial(_epps_pulley_, knots=knots, upper=upper)
    return mean_over_directions(z, directions, statistic_, num_directions=num_directions)


def _epps_pulley_(projected_nVB: Tensor, _: Tensor, *, knots: int, upper: float) -> Tensor:
    """Sum the statistic over directions and views, and replace the projections by its derivatives."""
    # At t = 0 both characteristic functions are 1.
    t_T = torch.linspace(0, upper, knots, dtype=projected_nVB.dtype, device=projected_nVB.device)[1:]
    normal_T = torch.exp(-t_T.square() / 2)
    weights_T = 2 * upper / (knots - 1) * normal_T
    weights_T[-1] /= 2
    views, batch = projected_nVB.shape[1:]
    most = _POWERS_ON_CPU if projected_nVB.device.type == "cpu" else _POWERS_ON_GPU
    total = projected_nVB.new_zeros((), dtype=torch.float64)
    for x_nVB in projected_nVB.split(max(1, most // (views * batch * len(t_T)))):
        powers_nVTB = _powers(x_nVB * t_T[0], len(t_T))
        # mean over b of exp(i t x_b), minus exp(−t²/2)
        difference_nVT = powers_nVTB.mean(-1) - normal_T
        total += batch * (torch.view_as_real(difference_nVT).square().sum(-1) * weights_T).sum(dtype=torch.float64)
        # d/dx_b of B |δ|² is 2 Re(conj(δ) · i t exp(i t x_b)).
        factors_nV1T = (-2 * weights_T * t_T * difference_nVT.conj()).unsqueeze(-2)
        x_nVB.copy_((factors_nV1T @ powers_nVTB).squeeze(-2).imag)
    return total


def _powers(angles: Tensor, count: int) -> Tensor:
    """Compute exp(i k angle) for k = 1 … count on a new axis before the last, by doubling: one sine and cosine each."""
    powers = torch.polar(torch.ones_like(angles), angles).unsqueeze(-2)
    while powers.shape[-2] < count:
        rest = count - powers.shape[-2]
        powers = torch.cat([powers, powers[..., :rest, :] * powers[..., -1:, :]], dim=-2)
    return powers
