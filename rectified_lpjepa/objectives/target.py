"""The distribution that every projector feature is asked to follow."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from rectified_lpjepa.distributions import GeneralizedGaussian, Law, RectifiedGeneralizedGaussian
from rectified_lpjepa.functional import generalized_gaussian as gg
from rectified_lpjepa.functional.randomness import Blocks, keyed_blocks
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.objectives.ranges import check_positive

_BLOCK_ROWS = 64  # even a small batch is drawn by several threads


@dataclass(frozen=True)
class Target:
    """A (rectified) generalised Gaussian, the same for every feature, features independent of each other.

    Attributes:
        p: shape > 0; 2 is the normal law, 1 the Laplace law.
        mu: location before rectification. None means 0, or what ``active_fraction`` asks for.
        active_fraction: expected fraction of non-zero features in (0, 1), as another way to say ``mu``.
        sigma: scale > 0; ``gn`` gives unit variance before rectification, ``rgn`` unit variance after it.
        rectified: whether negative values become zero.

    Raises:
        ValueError: if a value is out of its range or two of them contradict each other.
    """

    p: float = 2.0
    mu: float | None = None
    active_fraction: float | None = None
    sigma: Literal["gn", "rgn"] | float = "gn"
    rectified: bool = True

    def __post_init__(self) -> None:
        check_positive("The target's shape p", self.p)
        if self.mu is not None and not math.isfinite(self.mu):
            raise ValueError(f"The target's location mu must be a finite number, got {self.mu}.")
        if isinstance(self.sigma, str):
            if self.sigma not in ("gn", "rgn"):
                raise ValueError(f"The target's scale sigma must be 'gn', 'rgn' or a number, got {self.sigma!r}.")
        else:
            check_positive("The target's scale sigma", self.sigma)
        if self.active_fraction is not None:
            if not 0 < self.active_fraction < 1:
                raise ValueError(
                    f"The target's active fraction must lie strictly between 0 and 1, got {self.active_fraction}."
                )
            if self.mu is not None:
                raise ValueError(
                    f"You set both mu={self.mu} and active_fraction={self.active_fraction}, but each determines the "
                    "other. HINT: leave one of them out."
                )
            if not self.rectified:
                raise ValueError(
                    f"You set active_fraction={self.active_fraction} for a target that is not rectified, whose "
                    "features are all non-zero. HINT: set mu instead, or rectified=true."
                )

    @cached_property
    def resolved_mu(self) -> float:
        """The location μ in effect."""
        if self.active_fraction is not None:
            return float(gg.mu_for_active_fraction(self.p, self.active_fraction, self.sigma))
        return 0.0 if self.mu is None else float(self.mu)

    @cached_property
    def resolved_sigma(self) -> float:
        """The scale σ in effect."""
        if self.sigma == "gn":
            return float(gg.sigma_gn(self.p))
        if self.sigma == "rgn":
            return float(gg.sigma_rgn(self.p, self.resolved_mu))
        return float(self.sigma)

    def law(self) -> Law:
        """Return the law of one feature, with float64 scalar parameters."""
        p, mu, sigma = torch.tensor([self.p, self.resolved_mu, self.resolved_sigma], dtype=torch.float64)
        return (RectifiedGeneralizedGaussian if self.rectified else GeneralizedGaussian)(p, mu, sigma)

    def sample(
        self,
        shape: tuple[int, ...],
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw independent features.

        Args:
            shape: shape of the sample.
            generator: source of randomness on ``device``; None uses the global one.
            dtype: float32 or float64.
            device: where to draw; None means the generator's device, or the default one.
        """
        draws = gg.sample(
            self.p, self.resolved_mu, self.resolved_sigma, shape, generator=generator, dtype=dtype, device=device
        )
        return draws.clamp_min_(0.0) if self.rectified else draws

    def blocks(
        self,
        num: int,
        dim: int,
        *,
        seed: int,
        step: int,
        dtype: torch.dtype,
        device: torch.device | str,
        shard: Shard = Shard(),
    ) -> Blocks:
        """Divide the sample of a step into blocks of rows that are drawn when they are called for.

        Args:
            num: number of samples, those of all processes together.
            dim: number of features D.
            seed: seed of the run.
            step: number of the step, 0-based.
            dtype: float32 or float64.
            device: where to draw.
            shard: whose samples are wanted; no sample depends on it.

        Returns:
            Blocks (n, D), together the rows ``shard.rows(num)`` of the whole.
        """
        return keyed_blocks(
            lambda rows, generator: self.sample((rows, dim), generator=generator, dtype=dtype, device=device),
            shard.rows(num),
            num,
            _BLOCK_ROWS,
            seed=seed,
            purpose="target",
            step=step,
            device=device,
        )
