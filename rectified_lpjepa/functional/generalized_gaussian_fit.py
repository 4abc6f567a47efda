"""Maximum-likelihood fit of generalised Gaussians GN_p(μ, σ), many at once.

Shape suffixes: D samples (one for each feature), N values of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rectified_lpjepa.functional.precision import at_least_float32

SMALLEST_P, LARGEST_P = 0.1, 20.0
"""The shapes among which is fitted; at the larger one the law is nearly uniform."""

_ROUNDS = 7
_NEWTON_STEPS = 3
_SECTIONS = 8
_SHRINK = 0.4
_GOLDEN = (5**0.5 - 1) / 2


class Fit(NamedTuple):
    """The parameters of one generalised Gaussian for each feature, as float64 (D,); NaN for a constant feature."""

    p: Tensor
    mu: Tensor
    sigma: Tensor


def fit_generalized_gaussian(x_ND: Tensor) -> Fit:
    """Fit p, μ and σ of a generalised Gaussian to each feature by maximum likelihood.

    Given p and μ the best σ is ``(mean |x − μ|^p)^{1/p}``. With it in place, p (by Newton's method) and μ (by golden
    sections of an interval that shrinks from round to round) are improved in turn; for a symmetric law the one does not
    depend on the other.

    For p < 1 the likelihood has a cusp at each value of the sample: of the maxima close to each other one is found.

    Args:
        x_ND: samples of D features, floating point; the fit is computed in float32, or float64 if they are.

    Returns:
        The parameters, p within [``SMALLEST_P``, ``LARGEST_P``].

    Raises:
        ValueError: fewer than three samples.
    """
    if len(x_ND) < 3:
        raise ValueError(f"Three parameters are fitted to at least 3 samples, got {len(x_ND)}.")
    centre_D, scale_D = x_ND.double().mean(0), x_ND.double().std(0, correction=0)
    # A constant feature's deviation can be left slightly above zero by rounding.
    varies_D = (x_ND != x_ND[:1]).any(0)
    # In units of the standard deviation about the mean, and each feature's values side by side in memory.
    x_DN = ((x_ND - centre_D) / torch.where(varies_D, scale_D, 1.0)).to(at_least_float32(x_ND)).T.contiguous()
    mu_D, log_p_D = x_DN.median(1).values, x_DN.new_full((len(x_DN),), 0.4)
    width = 1.0
    for _ in range(_ROUNDS):
        log_p_D = _improve_shape(x_DN, mu_D, log_p_D)
        p_D1 = log_p_D.exp().unsqueeze(1)
        mu_D = _golden_section(lambda mu, p=p_D1: _power_mean(x_DN, mu, p), mu_D - width, mu_D + width)  # type: ignore[misc]
        width *= _SHRINK
    log_p_D = _improve_shape(x_DN, mu_D, log_p_D)
    p_D = log_p_D.double().exp()
    sigma_D = _power_mean(x_DN, mu_D, p_D.to(x_DN).unsqueeze(1)).double() ** (1 / p_D)
    parameters = (p_D, centre_D + scale_D * mu_D.double(), scale_D * sigma_D)
    return Fit(*(torch.where(varies_D, value, torch.nan) for value in parameters))


def _power_mean(x_DN: Tensor, mu_D: Tensor, p_D1: Tensor) -> Tensor:
    return (x_DN - mu_D.unsqueeze(1)).abs_().pow_(p_D1).mean(1)


def _improve_shape(x_DN: Tensor, mu_D: Tensor, log_p_D: Tensor) -> Tensor:
    """Take Newton steps in ln p on the mean of −ln f, (ln m)/p + ln 2 + (1/p − 1) ln p + ln Γ(1/p) + 1/p.

    Here m = mean |x − μ|^p, and with q = 1/p the derivative in q is ln m − p m'/m + ln p + p + ψ(q), m' = dm/dp.
    """
    magnitude_DN = (x_DN - mu_D.unsqueeze(1)).abs_()
    log_DN = magnitude_DN.clamp_min(torch.finfo(x_DN.dtype).tiny).log_()
    low, high = torch.tensor([SMALLEST_P, LARGEST_P]).log().tolist()
    for _ in range(_NEWTON_STEPS):
        p_D = log_p_D.exp()
        power_DN = (log_DN * p_D.unsqueeze(1)).exp_()
        moment_D = power_DN.mean(1)
        first_D = (power_DN.mul_(log_DN)).mean(1) / moment_D
        second_D = (power_DN.mul_(log_DN)).mean(1) / moment_D
        q_D = 1 / p_D
        slope_D = moment_D.log() - p_D * first_D + p_D.log() + p_D + torch.digamma(q_D)
        # d/dq with dp/dq = −p²: of ln m, −p² m'/m; of −p m'/m, p² m'/m + p³ (m''/m − (m'/m)²).
        curvature_D = p_D**3 * (second_D - first_D.square()) - p_D - p_D.square() + torch.polygamma(1, q_D)
        # In ln q the slope is q · slope, and the curvature q² · curvature + q · slope.
        slope_D, curvature_D = q_D * slope_D, q_D.square() * curvature_D + q_D * slope_D
        step_D = torch.where(curvature_D > 0, slope_D / curvature_D, slope_D.sign()).clamp(-1.0, 1.0)
        log_p_D = (log_p_D + step_D).clamp(low, high)
    return log_p_D


def _golden_section(function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Shrink the interval [low, high] around the minimum, and return its middle."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(_SECTIONS):
        go_left = at_left < at_right
        low, high = torch.where(go_left, low, left), torch.where(go_left, right, high)
        # One of the two inner points stays; only the other is new.
        new = torch.where(go_left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_new = function(new)
        left, right = torch.where(go_left, new, right), torch.where(go_left, left, new)
        at_left, at_right = torch.where(go_left, at_new, at_right), torch.where(go_left, at_left, at_new)
    return (low + high) / 2
