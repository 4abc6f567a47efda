"""Numerics of the standard generalised Gaussian GN_p(0, 1), in float64 and accurate in the tails.

Density exp(−t) / N_p with t = |z|^p / p and N_p = 2 p^{1/p−1} Γ(1/p). All arguments are float64 tensors on one device
that broadcast against each other; :mod:`rectified_lpjepa.functional.generalized_gaussian` is the public face.

Symbols: z a standardised value, p the shape, a = 1/p, t = |z|^p / p, Q and P the regularised upper and lower incomplete
gamma functions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Tensor

# Beyond t = FAR, Gauss-Laguerre quadrature takes the place of the incomplete gamma functions, whose forms of the
# moments cancel and finally underflow there. From FAR on its 32 nodes are exact to rounding.
FAR = 4.0
NODES, WEIGHTS = np.polynomial.laguerre.laggauss(32)


def exponent(z: Tensor, p: Tensor) -> Tensor:
    """Return t = |z|^p / p, with gradient 0 at z = 0, where autograd's own would be NaN for p < 1."""
    nonzero = torch.where(z == 0, 1.0, z)
    return torch.where(z == 0, 0.0, nonzero.abs().pow(p) / p)


def log_normalizer(p: Tensor) -> Tensor:
    """Return ln N_p = ln(2 p^{1/p−1} Γ(1/p)), the log-integral of exp(−|z|^p / p) over R."""
    return math.log(2.0) + (1 / p - 1) * p.log() + torch.lgamma(1 / p)


class _Cdf(torch.autograd.Function):
    """Φ_p(z) whose gradient is the density: finite at z = 0, where that of the incomplete gamma function is not."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, p: Tensor) -> Tensor:
        ctx.save_for_backward(z, p)
        tail = torch.special.gammaincc(1 / p, exponent(z, p)) / 2
        return torch.where(z < 0, tail, 1 - tail)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        if ctx.needs_input_grad[1]:
            raise NotImplementedError(
                "The cdf of a generalised Gaussian is differentiable in z and not differentiable in its shape p, which "
                "requires a gradient here. HINT: p.detach()."
            )
        z, p = ctx.saved_tensors
        return grad_outputs[0] * torch.exp(-exponent(z, p) - log_normalizer(p)), None


def cdf(z: Tensor, p: Tensor) -> Tensor:
    """Return Φ_p(z), with full relative accuracy for z < 0; differentiable in z."""
    return _Cdf.apply(*torch.broadcast_tensors(z, p))  # type: ignore[no-any-return]


def log_cdf(z: Tensor, p: Tensor) -> Tensor:
    """Return ln Φ_p(z), finite also where Φ_p(z) underflows; differentiable in z."""
    z, p = torch.broadcast_tensors(z, p)
    t = exponent(z, p)
    far = (z < 0) & (t > FAR)
    near_value = cdf(torch.where(far, 0.0, z), p).log()
    return torch.where(far, _laguerre(t, 1 / p).log_mass, near_value)


def quantile(q: Tensor, p: Tensor) -> Tensor:
    """Return Φ_p⁻¹(q): ∓∞ for q = 0 and 1, NaN outside [0, 1]. Computed by SciPy on the CPU, not differentiable."""
    probability, shape = (value.detach().cpu().numpy() for value in torch.broadcast_tensors(q, p))
    signed = 2 * probability - 1
    # Each inverse where its argument is exact: P⁻¹ about the centre, Q⁻¹ in both tails.
    centre = special.gammaincinv(1 / shape, np.abs(signed))
    tails = special.gammainccinv(1 / shape, 2 * np.minimum(probability, 1 - probability))
    t = np.where(np.abs(signed) < 0.5, centre, tails)
    return torch.as_tensor(np.sign(signed) * (shape * t) ** (1 / shape), device=q.device)


def variance(p: Tensor) -> Tensor:
    """Return Var(GN_p(0, 1)) = p^{2/p} Γ(3/p) / Γ(1/p)."""
    return torch.exp(2 / p * p.log() + torch.lgamma(3 / p) - torch.lgamma(1 / p))


class Truncated(NamedTuple):
    """The part above zero of X ~ GN_p(−m, 1)."""

    log_mass: Tensor
    """ln P(X > 0)."""
    mean: Tensor
    """E[X | X > 0]."""
    second_moment: Tensor
    """E[X² | X > 0]."""
    entropy: Tensor
    """Differential entropy of X given X > 0, in nats."""


def truncated(m: Tensor, p: Tensor) -> Truncated:
    """Describe the part above zero of GN_p(−m, 1) for m ≥ 0, however small its mass.

    Locations above zero follow by reflection: with X ~ GN_p(m, 1), max(0, X) = X + max(0, −X) and −X ~ GN_p(−m, 1).
    """
    m, p = torch.broadcast_tensors(m, p)
    t = exponent(m, p)
    near, far = _incomplete_gamma(m, t.clamp(max=FAR), p), _laguerre(t, 1 / p)
    return Truncated(
        log_mass=torch.where(t > FAR, far.log_mass, near.log_mass),
        mean=torch.where(t > FAR, m * far.mean, near.mean),
        second_moment=torch.where(t > FAR, m**2 * far.second_moment, near.second_moment),
        entropy=torch.where(t > FAR, far.entropy, near.entropy) + log_normalizer(p),
    )


def _incomplete_gamma(m: Tensor, t: Tensor, p: Tensor) -> Truncated:
    """Closed forms by the upper incomplete gamma functions; the entropy lacks ln N_p."""
    a = 1 / p
    mass = torch.special.gammaincc(a, t) / 2
    # ∫ |x + m|^k dF over x > 0 for k = 1, 2
    first, second = (
        torch.exp(k * a * p.log() + torch.lgamma((k + 1) * a) - torch.lgamma(a))
        * torch.special.gammaincc((k + 1) * a, t)
        / 2
        for k in (1, 2)
    )
    return Truncated(
        log_mass=mass.log(),
        mean=first / mass - m,
        second_moment=(second - 2 * m * first) / mass + m**2,
        entropy=mass.log() + a * torch.special.gammaincc(a + 1, t) / (2 * mass),
    )


def _laguerre(t: Tensor, a: Tensor) -> Truncated:
    """Gauss-Laguerre quadrature for t ≥ FAR; moments in units of m, the entropy lacks ln N_p.

    With s = (|x + m|^p − m^p) / p the part above zero is ∝ e^{−s} (1 + s/t)^{a−1} ds on s > 0, and
    x = m [(1 + s/t)^a − 1]: nothing cancels and nothing underflows.
    """
    s, weights = (torch.as_tensor(array, device=t.device) for array in (NODES, WEIGHTS))
    t, a = t.clamp(min=FAR), a[..., None]
    log_ratio = torch.log1p(s / t[..., None])
    weights = weights * torch.exp((a - 1) * log_ratio)
    total = weights.sum(-1)
    x = torch.expm1(a * log_ratio)
    a = a.squeeze(-1)
    log_mass_plus_t = (total / 2).log() + (a - 1) * t.log() - torch.lgamma(a)
    return Truncated(
        log_mass=log_mass_plus_t - t,
        mean=(weights * x).sum(-1) / total,
        second_moment=(weights * x**2).sum(-1) / total,
        entropy=log_mass_plus_t + (weights * s).sum(-1) / total,
    )
