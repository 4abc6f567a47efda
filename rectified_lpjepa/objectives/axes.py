"""Which single features an objective compares with the target, and how much that counts.

Shape suffixes: V views, B samples, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from rectified_lpjepa.functional.axis_wasserstein import axis_wasserstein
from rectified_lpjepa.functional.quantized_law import quantized_law
from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.objectives.ranges import check_not_negative
from rectified_lpjepa.objectives.target import Target


@dataclass(frozen=True)
class Axes:
    """The axes as directions: each feature by itself against the exact quantiles of the target.

    Of a batch of B values about B times the target's active fraction are to be active, rounded up: where that is only
    one or two, as of small batches matched per process, the sparsity is coarse.

    Attributes:
        weight: what their mean distance counts beside that along the other directions, at least 0; 0 leaves the axes
            out, as the paper does.
        num: how many features are compared in each step, drawn anew; None for all of them.

    Raises:
        ValueError: if a value is out of its range.
    """

    weight: float = 0.0
    num: int | None = None

    def __post_init__(self) -> None:
        check_not_negative("The weight of the axes", self.weight)
        if self.num is not None and self.num < 1:
            raise ValueError(f"The number of axes must be at least 1, or null for all of them, got {self.num}.")

    def description(self) -> dict[str, str | int | float]:
        """Return the facts worth printing at the start of a run, by name; none without a weight."""
        return {"weight of the axes": self.weight, "axes": self.num or "all"} if self.weight else {}

    def distance(self, z_VBD: Tensor, target: Target, *, seed: int, step: int, shard: Shard = Shard()) -> Tensor:
        """Compute a share of the mean squared distance along the axes.

        Args:
            z_VBD: features (V, B, D), floating point.
            target: the law of each feature.
            seed: seed of the run.
            step: number of the step, 0-based.
            shard: whose share of the axes is wanted; the values of all shares add up to the mean.

        Returns:
            Scalar, with a gradient to the features.

        Raises:
            ValueError: if more axes are asked for than there are features.
        """
        _, batch, dim = z_VBD.shape
        quantiles = _quantiles(target, batch, z_VBD.device)
        num = dim if self.num is None else self.num
        if num > dim:
            raise ValueError(
                f"You asked for {num} axes, but there are {dim} features. HINT: set the number of axes to at most "
                f"{dim}, or to null for all of them."
            )
        rows = shard.rows(num)
        if num == dim:
            features = torch.arange(rows.start, rows.stop, device=z_VBD.device)
        else:
            order = torch.randperm(dim, generator=keyed_generator(seed, "axes", step))
            features = order[rows.start : rows.stop].to(z_VBD.device, non_blocking=True)
        return axis_wasserstein(z_VBD, quantiles, None if len(features) == dim else features, num_features=num)


@lru_cache(maxsize=8)
def _quantiles(target: Target, num: int, device: torch.device) -> Tensor:
    """Keep the quantiles where they are used: they are the same in every step."""
    values = quantized_law(num, target.p, target.resolved_mu, target.resolved_sigma, rectified=target.rectified)
    return values.to(device)
