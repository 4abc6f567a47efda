"""The generalised Gaussian GN_p(μ, σ) and its rectification RGN_p(μ, σ), the law of max(0, X) with X ~ GN_p(μ, σ).

GN_p(μ, σ) has the density p^{1−1/p} / (2 σ Γ(1/p)) · exp(−|x−μ|^p / (p σ^p)): p = 2 is the normal law with standard
deviation σ, p = 1 the Laplace law with scale σ. Its standard cdf is Φ_p. RGN_p(μ, σ) has a point mass Φ_p(−μ/σ) at
zero; what remains, truncated to (0, ∞), is called TGN. Source: Rectified LpJEPA, arXiv 2602.01456.

Every function takes numbers and tensors that broadcast against each other, computes in float64 and returns a tensor:
a float64 scalar if all arguments are numbers, else in the tensors' common floating dtype, at least float32, on their
device (as everywhere in PyTorch, tensors without dimensions have no say if others have some). Good for p from 0.25 to
8 and μ/σ from −6 to 6 and far beyond. A number p or sigma that is not positive raises ValueError; values inside tensors
are trusted, since looking at them would stall the device. ``log_prob``, ``cdf`` and ``log_cdf`` are differentiable in
x, mu and sigma.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from rectified_lpjepa.functional import standard_generalized_gaussian as standard

# In the far tail each step divides t = |μ/σ|^p / p by e, and float64 holds no t above e^709; 15 steps are usual.
_NEWTON_STEPS = 750
_NEWTON_TOLERANCE = 1e-13


def _check_positive(**values: float | Tensor) -> None:
    for name, value in values.items():
        if not isinstance(value, Tensor) and not value > 0:
            raise ValueError(f"{name} must be a positive number, got {value}")


def _promote(**values: float | Tensor) -> tuple[list[Tensor], torch.dtype]:
    """Turn the named arguments into float64 tensors on one device; also return the dtype that the result shall have."""
    _check_positive(**{name: value for name, value in values.items() if name in ("p", "sigma")})
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    leaders = [tensor for tensor in tensors if tensor.dim()] or tensors
    device = next((tensor.device for tensor in leaders if tensor.device.type != "cpu"), torch.device("cpu"))
    dtype = functools.reduce(
        torch.promote_types, (t.dtype for t in leaders), torch.float32 if leaders else torch.float64
    )
    promoted = [
        # A tensor with dimensions on another device is the caller's mistake: left there, PyTorch reports it.
        value.to(torch.float64) if isinstance(value, Tensor) and value.dim() else _scalar(value, device)
        for value in values.values()
    ]
    return promoted, dtype


def _scalar(value: float | Tensor, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(device, torch.float64)
    return torch.full((), value, dtype=torch.float64, device=device)


def log_prob(x: float | Tensor, p: float | Tensor, mu: float | Tensor, sigma: float | Tensor) -> Tensor:
    """Log-density of GN_p(μ, σ) at x, in nats."""
    (x, p, mu, sigma), dtype = _promote(x=x, p=p, mu=mu, sigma=sigma)
    density = -standard.exponent((x - mu) / sigma, p) - standard.log_normalizer(p) - sigma.log()
    return density.to(dtype)


def cdf(x: float | Tensor, p: float | Tensor, mu: float | Tensor, sigma: float | Tensor) -> Tensor:
    """P(X ≤ x) for X ~ GN_p(μ, σ): Φ_p(z) = ``½ (1 + sgn(z) P(1/p, |z|^p / p))`` at z = (x − μ)/σ."""
    (x, p, mu, sigma), dtype = _promote(x=x, p=p, mu=mu, sigma=sigma)
    return standard.cdf((x - mu) / sigma, p).to(dtype)


def log_cdf(x: float | Tensor, p: float | Tensor, mu: float | Tensor, sigma: float | Tensor) -> Tensor:
    """Log of P(X ≤ x) for X ~ GN_p(μ, σ), finite also where the probability itself underflows."""
    (x, p, mu, sigma), dtype = _promote(x=x, p=p, mu=mu, sigma=sigma)
    return standard.log_cdf((x - mu) / sigma, p).to(dtype)


def icdf(q: float | Tensor, p: float | Tensor, mu: float | Tensor, sigma: float | Tensor) -> Tensor:
    """Quantile function of GN_p(μ, σ): the x with cdf(x) = q; ∓∞ for q = 0 and 1, NaN outside [0, 1].

    Computed by SciPy on the CPU. Differentiable in mu and sigma, not in q and p.
    """
    (q, p, mu, sigma), dtype = _promote(q=q, p=p, mu=mu, sigma=sigma)
    return (mu + sigma * standard.quantile(q, p)).to(dtype)


def variance(p: float | Tensor, sigma: float | Tensor) -> Tensor:
    """Variance of GN_p(μ, σ): σ² p^{2/p} Γ(3/p) / Γ(1/p)."""
    (p, sigma), dtype = _promote(p=p, sigma=sigma)
    return (sigma**2 * standard.variance(p)).to(dtype)


def entropy(p: float | Tensor, sigma: float | Tensor) -> Tensor:
    """Differential entropy of GN_p(μ, σ) in nats: ln(2 σ p^{1/p−1} Γ(1/p)) + 1/p."""
    (p, sigma), dtype = _promote(p=p, sigma=sigma)
    return (sigma.log() + standard.log_normalizer(p) + 1 / p).to(dtype)


def active_fraction(p: float | Tensor, mu: float | Tensor, sigma: float | Tensor) -> Tensor:
    """Expected share of non-zero coordinates under RGN_p(μ, σ): E‖x‖₀ / D = Φ_p(μ/σ)."""
    (p, mu, sigma), dtype = _promote(p=p, mu=mu, sigma=sigma)
    return standard.cdf(mu / sigma, p).to(dtype)


def _rectified_moments(z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and second moment of RGN_p(z, 1), float64.

    For z > 0 by max(0, X) = X + max(0, −X): only the smaller side of the law is integrated, so nothing cancels.
    """
    z, p = torch.broadcast_tensors(z, p)
    tail = standard.truncated(z.abs(), p)
    mean, second = tail.log_mass.exp() * tail.mean, tail.log_mass.exp() * tail.second_moment
    return torch.where(z > 0, z + mean, mean), torch.where(z > 0, z**2 + standard.variance(p) - second, second)


def _log_variance(z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Log-variance of RGN_p(μ, σ) at μ = z and σ = 1, and its derivative in ln σ; float64, finite in the far tail.

    The derivative is 2 (1 − z · mean · (1 − Φ_p(z)) / variance).
    """
    z, p = torch.broadcast_tensors(z, p)
    tail = standard.truncated(z.abs(), p)
    mass = tail.log_mass.exp()
    mean = mass * tail.mean
    # For z ≤ 0 both mean and variance are divided by the mass, which may underflow.
    over_mass = tail.second_moment - mean * tail.mean
    over_one = standard.variance(p) - mass * tail.second_moment - mean * (2 * z.abs() + mean)
    log_variance = torch.where(z > 0, over_one.log(), tail.log_mass + over_mass.log())
    ratio = torch.where(z > 0, mass * (z + mean) / over_one, (1 - mass) * tail.mean / over_mass)
    return log_variance, 2 * (1 - z * ratio)


def rectified_mean(p: float | Tensor, mu: float | Tensor, sigma: float | Tensor) -> Tensor:
    """Mean of RGN_p(μ, σ)."""
    (p, mu, sigma), dtype = _promote(p=p, mu=mu, sigma=sigma)
    return (sigma * _rectified_moments(mu / sigma, p)[0]).to(dtype)


def rectified_second_moment(p: float | Tensor, mu: float | Tensor, sigma: float | Tensor) -> Tensor:
    """E X² for X ~ RGN_p(μ, σ)."""
    (p, mu, sigma), dtype = _promote(p=p, mu=mu, sigma=sigma)
    return (sigma**2 * _rectified_moments(mu / sigma, p)[1]).to(dtype)


def rectified_variance(p: float | Tensor, mu: float | Tensor, sigma: float | Tensor) -> Tensor:
    """Variance of RGN_p(μ, σ)."""
    (p, mu, sigma), dtype = _promote(p=p, mu=mu, sigma=sigma)
    return (sigma**2 * _log_variance(mu / sigma, p)[0].exp()).to(dtype)


def _truncated_entropy(z: Tensor, p: Tensor) -> Tensor:
    """Differential entropy of TGN_p(z, 1) in nats, float64."""
    z, p = torch.broadcast_tensors(z, p)
    mass_below, mass_above = standard.cdf(-z, p), standard.cdf(z, p)
    energy_below = torch.special.gammaincc(1 / p + 1, standard.exponent(z, p)) / (2 * p)
    positive = standard.log_normalizer(p) + torch.log1p(-mass_below) + (1 / p - energy_below) / mass_above
    return torch.where(z > 0, positive, standard.truncated(z.clamp(max=0).neg(), p).entropy)


def truncated_entropy(p: float | Tensor, mu: float | Tensor, sigma: float | Tensor) -> Tensor:
    """Differential entropy H₁, in nats, of TGN_p(μ, σ): X ~ GN_p(μ, σ) given X > 0."""
    (p, mu, sigma), dtype = _promote(p=p, mu=mu, sigma=sigma)
    return (sigma.log() + _truncated_entropy(mu / sigma, p)).to(dtype)


def rectified_entropy(p: float | Tensor, mu: float | Tensor, sigma: float | Tensor) -> Tensor:
    """d(ξ)-dimensional entropy of RGN_p(μ, σ) in nats (Theorem 3.6): ρ H₁(TGN) + H₀(Bernoulli(ρ)), ρ = Φ_p(μ/σ)."""
    (p, mu, sigma), dtype = _promote(p=p, mu=mu, sigma=sigma)
    z = mu / sigma
    active, silent = standard.cdf(z, p), standard.cdf(-z, p)
    differential: Tensor = active * (sigma.log() + _truncated_entropy(z, p))
    bernoulli: Tensor = torch.special.entr(active) + torch.special.entr(silent)
    return (differential + bernoulli).to(dtype)


def sigma_gn(p: float | Tensor) -> Tensor:
    """The σ that gives GN_p(μ, σ) unit variance: Γ(1/p)^½ / (p^{1/p} Γ(3/p)^½)."""
    (p,), dtype = _promote(p=p)
    return standard.variance(p).rsqrt().to(dtype)


@torch.no_grad()
def sigma_rgn(p: float | Tensor, mu: float | Tensor) -> Tensor:
    """The σ that gives RGN_p(μ, σ) unit variance, by Newton's method on ln σ. Not differentiable."""
    (p, mu), dtype = _promote(p=p, mu=mu)
    # Rectifying never adds variance, so σ_GN is a lower bound. The log-variance is increasing and concave in ln σ:
    # from the left Newton's method neither overshoots nor stalls.
    log_sigma: Tensor = -standard.variance(p).log() / 2
    for _ in range(_NEWTON_STEPS):
        log_variance, slope = _log_variance(mu * torch.exp(-log_sigma), p)
        step = (2 * log_sigma + log_variance) / slope
        log_sigma = log_sigma - step
        if bool((step.abs() < _NEWTON_TOLERANCE).all()):
            break
    return log_sigma.exp().to(dtype)


def mu_for_active_fraction(
    p: float | Tensor, fraction: float | Tensor, sigma: float | Tensor | Literal["gn", "rgn"]
) -> Tensor:
    """The μ for which RGN_p(μ, σ) has a wanted share of non-zero coordinates; the inverse of :func:`active_fraction`.

    Args:
        p: shape.
        fraction: wanted active fraction, in (0, 1).
        sigma: scale, or ``"gn"`` for :func:`sigma_gn` of p, or ``"rgn"`` for :func:`sigma_rgn` of p and the result.

    Returns:
        μ = q σ with q = Φ_p⁻¹(fraction).

    Raises:
        ValueError: for a number ``fraction`` outside (0, 1), or a ``sigma`` of another name.
    """
    if not isinstance(fraction, Tensor) and not 0 < fraction < 1:
        raise ValueError(f"fraction must lie strictly between 0 and 1, got {fraction}")
    if isinstance(sigma, str) and sigma not in ("gn", "rgn"):
        raise ValueError(f"sigma must be a positive number, 'gn' or 'rgn', got {sigma!r}")
    (p, q, scale), dtype = _promote(p=p, q=fraction, sigma=1.0 if isinstance(sigma, str) else sigma)
    z = standard.quantile(q, p)
    if sigma == "gn":
        scale = standard.variance(p).rsqrt()
    elif sigma == "rgn":
        scale = torch.exp(-_log_variance(z, p)[0] / 2)
    return (z * scale).to(dtype)


@torch.no_grad()
def sample(
    p: float | Tensor,
    mu: float | Tensor,
    sigma: float | Tensor,
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw from GN_p(μ, σ), on the device and without a detour through the CPU. Draws carry no gradient.

    A scale mixture of uniforms: X = μ + σ u (p g)^{1/p} with u ~ U(−1, 1) and g ~ Gamma(1 + 1/p), better conditioned
    than the textbook's sign · Gamma(1/p) for large p. The numbers p = 2 and p = 1 have faster ways.

    Args:
        p: shape; a number or a tensor that broadcasts to ``shape``, as ``mu`` and ``sigma``.
        mu: location.
        sigma: scale.
        shape: shape of the result.
        generator: source of randomness, on the device of the draws; PyTorch's global one by default.
        dtype: float32 or float64; half precision would clip the tails and tie the values.
        device: by default that of the tensors among the parameters, else that of the generator, else the CPU.

    Returns:
        Draws of the given shape, dtype and device.

    Raises:
        TypeError: for another dtype.
    """
    _check_positive(p=p, sigma=sigma)
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"draws are made in torch.float32 or torch.float64, got dtype={dtype}")
    if device is None:
        tensors = [value for value in (p, mu, sigma) if isinstance(value, Tensor)]
        device = tensors[0].device if tensors else generator.device if generator else "cpu"
    p, mu, sigma = (v.to(device, dtype) if isinstance(v, Tensor) else v for v in (p, mu, sigma))
    empty = functools.partial(torch.empty, dtype=dtype, device=device)
    if not isinstance(p, Tensor) and p == 2:
        noise = empty(tuple(shape)).normal_(generator=generator)
    elif not isinstance(p, Tensor) and p == 1:
        exponential = empty((2, *shape)).exponential_(generator=generator)
        noise = exponential[0] - exponential[1]
    else:
        a = 1 + 1 / p
        concentration = empty(tuple(shape)).copy_(a) if isinstance(a, Tensor) else empty(tuple(shape)).fill_(a)
        g = torch._standard_gamma(concentration, generator)
        noise = (g * p) ** (1 / p) * empty(tuple(shape)).uniform_(-1, 1, generator=generator)
    return noise.mul_(sigma).add_(mu)
