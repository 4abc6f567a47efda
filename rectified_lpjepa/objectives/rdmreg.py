"""Rectified distribution matching regularisation with invariance: the loss of Rectified LpJEPA and of LpJEPA.

Shape suffixes: V views, B samples of this process, W processes, D features, N directions.
"""

from dataclasses import asdict
from typing import Any, Literal, get_args

from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.functional.invariance import invariance
from rectified_lpjepa.functional.precision import at_least_float32
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.functional.sliced_wasserstein import sliced_wasserstein
from rectified_lpjepa.objectives.axes import Axes
from rectified_lpjepa.objectives.directions import Directions
from rectified_lpjepa.objectives.gathering import check_gathered
from rectified_lpjepa.objectives.objective import Objective, ObjectiveOutput
from rectified_lpjepa.objectives.ranges import check_not_negative
from rectified_lpjepa.objectives.target import Target

Matching = Literal["global", "per_rank"]


class RDMReg(Objective):
    """Invariance between views plus the sliced 2-Wasserstein distance to the target (arXiv 2602.01456, Eqs. 14-16).

        loss = invariance_weight · mean (z − z')² + distribution_weight · (SW₂²(z, y) + axes.weight · A)

    The means are over samples and features, over directions and over views; the default weights are valid with exactly
    these means. One target sample y (W·B, D) is drawn each step and shared by the views. A is the mean over single
    features of their squared distance to the target's exact quantiles, see :class:`~rectified_lpjepa.objectives.Axes`;
    it is no part of the paper's method, in which its weight is 0.

    With global matching each of several processes projects the features of all of them onto its share of the N
    directions and returns the sum over it, divided by the number of directions in the share of an average process: N/W,
    or N where every process takes all. The processes' mean of that is the distance with all N directions, and with
    gathered features that carry gradients and gradients averaged over the processes, parameters get the gradient of one
    process with the whole batch.

    With matching per rank nothing is gathered: each process matches its own B features to its own B rows of the target
    sample, along all N directions, of which those that are eigenvectors are its own features'. That is another loss
    than one process has, and a noisier one; its value depends on the number of processes.

    The distance is computed in float32 or float64, whatever autocast or TensorFloat-32 setting surrounds it.

    Args:
        target: the distribution that each feature is asked to follow.
        directions: number and kind of the directions.
        invariance_weight: λ_sim ≥ 0.
        distribution_weight: λ_dist ≥ 0.
        matching: ``global``, the features of all processes together; ``per_rank``, each process's by themselves.
        axes: the comparison of single features with the target, which makes the sparsity the one that is asked for.

    Raises:
        ValueError: if a weight is negative or not finite, or ``matching`` is neither.
    """

    def __init__(
        self,
        target: Target = Target(),
        directions: Directions = Directions(),
        invariance_weight: float = 25.0,
        distribution_weight: float = 125.0,
        matching: Matching = "global",
        axes: Axes = Axes(),
    ) -> None:
        super().__init__()
        if matching not in get_args(Matching):
            raise ValueError(f"There is no matching {matching!r}; choose from {', '.join(get_args(Matching))}.")
        check_not_negative("invariance_weight", invariance_weight)
        check_not_negative("distribution_weight", distribution_weight)
        self.target = target
        self.directions = directions
        self.invariance_weight = invariance_weight
        self.distribution_weight = distribution_weight
        self.matching = matching
        self.axes = axes

    @override
    def forward(
        self,
        z: Tensor,
        gathered: Tensor,
        *,
        seed: int,
        step: int,
        shard: Shard = Shard(),
        labels: Tensor | None = None,
        global_views: int | None = None,
    ) -> ObjectiveOutput:
        difference = invariance(z)
        if self.needs_gathering:
            check_gathered(z, gathered, shard)
            matched, directions, samples = gathered, shard, Shard()
        else:
            matched, directions, samples = z, Shard(), shard
        matched = matched.to(at_least_float32(matched))
        distance = directions.world_size * self._distance(matched, seed, step, directions=directions, samples=samples)
        parts = {"invariance": difference.detach(), "rdmreg": distance.detach()}
        if self.axes.weight:
            along_axes = directions.world_size * self.axes.distance(
                matched, self.target, seed=seed, step=step, shard=directions
            )
            parts["axes"] = along_axes.detach()
            distance = distance + self.axes.weight * along_axes
        return ObjectiveOutput(self.invariance_weight * difference + self.distribution_weight * distance, parts)

    def _distance(self, z_VBD: Tensor, seed: int, step: int, *, directions: Shard, samples: Shard) -> Tensor:
        """Sum the distances of a share of the samples along a share of the directions, divided by all N directions."""
        _, batch, dim = z_VBD.shape
        target = self.target.blocks(
            samples.world_size * batch, dim, seed=seed, step=step, dtype=z_VBD.dtype, device=z_VBD.device, shard=samples
        )
        drawn = self.directions.draw(z_VBD, seed=seed, step=step, shard=directions)
        return sliced_wasserstein(z_VBD, target, drawn, num_directions=self.directions.num)

    @property
    @override
    def needs_gathering(self) -> bool:
        return self.matching == "global"

    @property
    @override
    def is_per_process(self) -> bool:
        return self.matching == "per_rank"

    @property
    @override
    def init_args(self) -> dict[str, Any]:
        return {
            "target": asdict(self.target),
            "directions": asdict(self.directions),
            "invariance_weight": self.invariance_weight,
            "distribution_weight": self.distribution_weight,
            "matching": self.matching,
            "axes": asdict(self.axes),
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
            **self.axes.description(),
            "invariance weight": self.invariance_weight,
            "distribution weight": self.distribution_weight,
        }
