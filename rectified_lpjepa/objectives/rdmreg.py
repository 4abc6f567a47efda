"""Rectified distribution matching regularisation with invariance: the loss of Rectified LpJEPA and of LpJEPA.

Shape suffixes: V views, B samples of this process, W processes, D features, N directions.
"""

import math
from dataclasses import asdict
from typing import Any

from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.functional.invariance import invariance
from rectified_lpjepa.functional.precision import at_least_float32
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.functional.sliced_wasserstein import sliced_wasserstein
from rectified_lpjepa.objectives.directions import Directions
from rectified_lpjepa.objectives.objective import Objective, ObjectiveOutput
from rectified_lpjepa.objectives.target import Target


class RDMReg(Objective):
    """Invariance between views plus the sliced 2-Wasserstein distance to the target (arXiv 2602.01456, Eqs. 14-16).

        loss = invariance_weight · mean (z − z')² + distribution_weight · SW₂²(z, y)

    The means are over samples and features, over directions and over views; the default weights are valid with exactly
    these means. One target sample y (W·B, D) is drawn each step and shared by the views.

    Of several processes each projects the features of all of them onto its own share of the N directions and
    returns (W/N) times the sum over it. The processes' mean of that is the distance with all N directions, and with
    gathered features that carry gradients and gradients averaged over the processes, parameters get the gradient of
    one process with the whole batch.

    The distance is computed in float32 or float64, whatever autocast or TensorFloat-32 setting surrounds it.

    Args:
        target: the distribution that each feature is asked to follow.
        directions: number and kind of the directions.
        invariance_weight: λ_sim ≥ 0.
        distribution_weight: λ_dist ≥ 0.

    Raises:
        ValueError: if a weight is negative or not finite.
    """

    def __init__(
        self,
        target: Target = Target(),
        directions: Directions = Directions(),
        invariance_weight: float = 25.0,
        distribution_weight: float = 125.0,
    ) -> None:
        super().__init__()
        for name, weight in (("invariance_weight", invariance_weight), ("distribution_weight", distribution_weight)):
            if not (weight >= 0 and math.isfinite(weight)):
                raise ValueError(f"{name} must be a finite number, 0 or above, got {weight}.")
        self.target = target
        self.directions = directions
        self.invariance_weight = invariance_weight
        self.distribution_weight = distribution_weight

    @override
    def forward(self, z: Tensor, gathered: Tensor, *, seed: int, step: int, shard: Shard = Shard()) -> ObjectiveOutput:
        views, batch, dim = z.shape
        expected = (views, shard.world_size * batch, dim)
        if tuple(gathered.shape) != expected:
            raise ValueError(
                f"Features {tuple(z.shape)} of one of {shard.world_size} processes must be gathered to {expected}, got "
                f"{tuple(gathered.shape)}."
            )
        difference = invariance(z)
        distance = shard.world_size * self._distance_of_share(gathered, seed, step, shard)
        return ObjectiveOutput(
            loss=self.invariance_weight * difference + self.distribution_weight * distance,
            parts={"invariance": difference.detach(), "rdmreg": distance.detach()},
        )

    def _distance_of_share(self, gathered_VBD: Tensor, seed: int, step: int, shard: Shard) -> Tensor:
        """Sum the distances along this process's share of the directions, divided by the number of all of them."""
        gathered_VBD = gathered_VBD.to(at_least_float32(gathered_VBD))
        _, batch, dim = gathered_VBD.shape
        target = self.target.blocks(
            batch, dim, seed=seed, step=step, dtype=gathered_VBD.dtype, device=gathered_VBD.device
        )
        directions = self.directions.draw(gathered_VBD, seed=seed, step=step, shard=shard)
        return sliced_wasserstein(gathered_VBD, target, directions, num_directions=self.directions.num)

    @property
    @override
    def init_args(self) -> dict[str, Any]:
        return {
            "target": asdict(self.target),
            "directions": asdict(self.directions),
            "invariance_weight": self.invariance_weight,
            "distribution_weight": self.distribution_weight,
        }

    @property
    @override
    def law(self) -> Law:
        return self.target.law()

    @override
    def description(self) -> dict[str, str | int | float]:
        return {
            "target": ("rectified " if self.target.rectified else "") + "generalized Gaussian",
            "p": self.target.p,
            "mu": self.target.resolved_mu,
            "sigma": self.target.resolved_sigma,
            "active fraction of the target": float(self.law.active_fraction),
            "directions": self.directions.num,
            "kind of directions": self.directions.kind,
            "invariance weight": self.invariance_weight,
            "distribution weight": self.distribution_weight,
        }
