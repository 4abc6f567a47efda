"""Generalised Gaussian laws, plain and rectified, as :class:`torch.distributions.Distribution`.

The maths is in :mod:`rectified_lpjepa.functional.generalized_gaussian`, which also defines the parameters: note that
the scale σ is that of Rectified LpJEPA (arXiv 2602.01456), the standard deviation for p = 2 and the Laplace scale for
p = 1; ``scipy.stats.gennorm(beta=p, loc=loc, scale=scale * p ** (1 / p))`` is the same law.
"""

from __future__ import annotations

import functools
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import broadcast_all
from typing_extensions import override

from rectified_lpjepa.functional import generalized_gaussian as gg


class _LocationScaleShape(Distribution):
    """What the plain and the rectified law share: parameters p, loc and scale of one shape, dtype and device."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "p": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }

    def __init__(
        self,
        p: float | Tensor,
        loc: float | Tensor,
        scale: float | Tensor,
        validate_args: bool | None = None,
    ) -> None:
        parameters = broadcast_all(p, loc, scale)
        # Half precision and integers are too coarse for tails and moments.
        dtype = functools.reduce(torch.promote_types, (t.dtype for t in parameters), torch.float32)
        self.p, self.loc, self.scale = (t.to(dtype) for t in parameters)
        super().__init__(self.p.shape, validate_args=validate_args)

    @override
    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: Self | None = None) -> Self:
        """Return the same law with its parameters expanded to ``batch_shape``, without copying them."""
        new: Self = self._get_checked_instance(type(self), _instance)
        new.p, new.loc, new.scale = (t.expand(batch_shape) for t in (self.p, self.loc, self.scale))
        Distribution.__init__(new, torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @override
    def sample(
        self,
        sample_shape: torch.Size | list[int] | tuple[int, ...] = (),
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw values of shape ``sample_shape + batch_shape``, on the parameters' device and in their dtype."""
        return gg.sample(
            self.p,
            self.loc,
            self.scale,
            self._extended_shape(torch.Size(sample_shape)),
            generator=generator,
            dtype=self.loc.dtype,
            device=self.loc.device,
        )


class GeneralizedGaussian(_LocationScaleShape):
    """The generalised Gaussian law GN_p(loc, scale), density ∝ exp(−|x − loc|^p / (p scale^p)).

    Args:
        p: shape, positive; 2 is normal, 1 Laplace, below 1 sharper at its centre and heavier in its tails.
        loc: location μ.
        scale: σ, positive.
        validate_args: whether to check parameters and arguments, see :class:`torch.distributions.Distribution`.

    The three broadcast against each other to the batch shape; half precision and integers are taken as float32.
    ``log_prob``, ``cdf`` and ``icdf`` compute in float64 inside and return the dtype of their input and the parameters.

    Raises:
        ValueError: for a p or scale that is not positive, or a loc that is NaN.

    Example:
        >>> law = GeneralizedGaussian(p=1.0, loc=0.0, scale=torch.tensor([0.5, 1.0]))
        >>> law.variance
        tensor([0.5000, 2.0000])
    """

    support = constraints.real

    @property
    @override
    def mean(self) -> Tensor:
        """Mean, which is loc."""
        return self.loc

    @property
    @override
    def variance(self) -> Tensor:
        """Variance, scale² p^{2/p} Γ(3/p) / Γ(1/p)."""
        return gg.variance(self.p, self.scale)

    @property
    def active_fraction(self) -> Tensor:
        """Expected share of non-zero draws, which is 1."""
        return torch.ones_like(self.loc)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats."""
        if self._validate_args:
            self._validate_sample(value)
        return gg.log_prob(value, self.p, self.loc, self.scale)

    @override
    def cdf(self, value: Tensor) -> Tensor:
        """P(X ≤ value)."""
        if self._validate_args:
            self._validate_sample(value)
        return gg.cdf(value, self.p, self.loc, self.scale)

    @override
    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles of the probabilities ``value``; differentiable in loc and scale only."""
        return gg.icdf(value, self.p, self.loc, self.scale)

    @override
    def entropy(self) -> Tensor:
        """Differential entropy in nats."""
        return gg.entropy(self.p, self.scale)


class RectifiedGeneralizedGaussian(_LocationScaleShape):
    """The law RGN_p(loc, scale) of max(0, X) with X ~ GN_p(loc, scale): a point mass at zero, a density above it.

    Args:
        p: shape, positive.
        loc: location μ of X, before rectification; the lower, the sparser.
        scale: σ of X, positive.
        validate_args: whether to check the parameters, see :class:`torch.distributions.Distribution`.

    The three broadcast against each other to the batch shape; half precision and integers are taken as float32.
    Moments and entropies stay accurate where hardly any mass is left above zero, and tend to 0 there.

    Raises:
        ValueError: for a p or scale that is not positive, or a loc that is NaN.

    Example:
        >>> law = RectifiedGeneralizedGaussian(p=2.0, loc=torch.tensor([0.0, -1.0]), scale=1.0)
        >>> law.active_fraction
        tensor([0.5000, 0.1587])
    """

    support = constraints.nonnegative

    @property
    @override
    def mean(self) -> Tensor:
        """Mean of max(0, X)."""
        return gg.rectified_mean(self.p, self.loc, self.scale)

    @property
    @override
    def variance(self) -> Tensor:
        """Variance of max(0, X)."""
        return gg.rectified_variance(self.p, self.loc, self.scale)

    @property
    def active_fraction(self) -> Tensor:
        """Expected share of non-zero draws, Φ_p(loc/scale)."""
        return gg.active_fraction(self.p, self.loc, self.scale)

    @override
    def sample(
        self,
        sample_shape: torch.Size | list[int] | tuple[int, ...] = (),
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw values of shape ``sample_shape + batch_shape``, on the parameters' device and in their dtype."""
        return super().sample(sample_shape, generator=generator).relu_()

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats with respect to Lebesgue measure plus a unit point mass at zero.

        Defined on all of R, unlike in other distributions with a bounded support.

        Returns:
            The log of the point mass, ln Φ_p(−loc/scale), at 0; the log-density of X above; −∞ below.
        """
        density = gg.log_prob(value, self.p, self.loc, self.scale)
        # One per parameter, not per value; in float64, lest it be rounded to coarser parameters than the values.
        point_mass = gg.log_cdf(0.0, self.p.double(), self.loc, self.scale).to(density.dtype)
        log_prob = torch.where(value == 0, point_mass, density)
        return torch.where(value < 0, -torch.inf, log_prob).where(~value.isnan(), torch.nan)

    @override
    def cdf(self, value: Tensor) -> Tensor:
        """P(max(0, X) ≤ value), on all of R: 0 below zero, Φ_p((value − loc)/scale) from zero on."""
        return gg.cdf(value, self.p, self.loc, self.scale).where(~(value < 0), 0.0)

    @override
    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles of the probabilities ``value``: 0 up to the point mass; differentiable in loc and scale only."""
        return gg.icdf(value, self.p, self.loc, self.scale).relu()

    @override
    def entropy(self) -> Tensor:
        """d(ξ)-dimensional entropy in nats (Theorem 3.6): that of the point mass's coin plus the active share's own."""
        return gg.rectified_entropy(self.p, self.loc, self.scale)


Law = GeneralizedGaussian | RectifiedGeneralizedGaussian
"""The distribution of a feature, plain or rectified."""
