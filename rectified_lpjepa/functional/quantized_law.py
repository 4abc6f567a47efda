"""The batch of B values that lies nearest to a law: what a sample would be without the luck of the draw."""

from __future__ import annotations

import torch
from torch import Tensor

from rectified_lpjepa.functional import standard_generalized_gaussian as standard


def quantized_law(num: int, p: float, mu: float, sigma: float, *, rectified: bool = True) -> Tensor:
    """Compute the values of equal weight that have the least 2-Wasserstein distance to RGN_p(μ, σ), or GN_p(μ, σ).

    The law's quantile function is cut into B slices of probability 1/B, and each value is the mean of its slice. So
    their mean is exactly the law's, and a batch that is as far from them as possible in the square mean is so from the
    law, up to a constant: W₂²(batch, law) = 1/B ‖sort(batch) − values‖² + the variance inside the slices.

    With Φ_p the standard cdf and U(q) = E[X; X > q] = ``½ p^{1/p} Γ(2/p, |q|^p / p) / Γ(1/p)`` for X ~ GN_p(0, 1), the
    mean of max(0, μ + σ X) over the slice between quantiles a and b is B (μ (Φ_p(b) − Φ_p(a)) + σ (U(a) − U(b))), with
    a and b not below −μ/σ. Checked against quadrature in the tests.

    Args:
        num: number of values B, at least 1.
        p: shape.
        mu: location μ before rectification.
        sigma: scale σ.
        rectified: whether negative values become zero.

    Returns:
        (B,) float64 on the CPU, ascending; the lowest are exactly zero for a rectified law.

    Raises:
        ValueError: if ``num`` is below 1.
    """
    if num < 1:
        raise ValueError(f"A law is quantized to at least 1 value, got {num}.")
    shape = torch.tensor(p, dtype=torch.float64)
    edges = standard.quantile(torch.arange(num + 1, dtype=torch.float64) / num, shape)
    if rectified:
        edges = edges.clamp(min=-mu / sigma)
    finite = edges.isfinite()
    inside = torch.where(finite, edges, 0.0)
    mass_above = torch.where(finite, standard.cdf(-inside, shape), (edges < 0).double())
    moment_above = torch.where(finite, _upper_moment(inside, shape), 0.0)
    values = -num * (mu * mass_above.diff() + sigma * moment_above.diff())
    return values.clamp(min=0.0) if rectified else values


def _upper_moment(q: Tensor, p: Tensor) -> Tensor:
    """E[X; X > q] of X ~ GN_p(0, 1), which is symmetric in q."""
    whole = torch.exp(p.log() / p + torch.lgamma(2 / p) - torch.lgamma(1 / p)) / 2
    moment: Tensor = whole * torch.special.gammaincc(2 / p, standard.exponent(q, p))
    return moment
