"""The loss of LeJEPA: invariance and sketched isotropic Gaussian regularisation."""

from dataclasses import asdict
from typing import Any

from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.functional.invariance_to_mean import invariance_to_mean
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.functional.sigreg import sigreg
from rectified_lpjepa.objectives.directions import Directions
from rectified_lpjepa.objectives.gathering import check_gathered
from rectified_lpjepa.objectives.objective import Objective, ObjectiveOutput
from rectified_lpjepa.objectives.ranges import check_positive, check_share
from rectified_lpjepa.objectives.target import Target


class LeJEPA(Objective):
    """Invariance plus the sliced Epps-Pulley statistic against the standard normal law (arXiv 2511.08544).

        loss = (1 − weight) · mean (z_v − mean of the views)² + weight · SIGReg(z)

    see :func:`~rectified_lpjepa.functional.invariance_to_mean.invariance_to_mean` and
    :func:`~rectified_lpjepa.functional.sigreg.sigreg`, whose factor B is the size of the global batch. Each of several
    processes takes its share of the directions on the features of all.

    Args:
        directions: number and kind of the directions.
        weight: λ in [0, 1]; the authors use .02 to .05.
        knots: points of the integral over the characteristic function, at least 2.
        upper: its upper end > 0.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        directions: Directions = Directions(num=1024),
        weight: float = 0.05,
        knots: int = 17,
        upper: float = 3.0,
    ) -> None:
        super().__init__()
        check_share("weight", weight)
        if knots < 2:
            raise ValueError(f"knots must be at least 2, got {knots}.")
        check_positive("upper", upper)
        self.directions = directions
        self.weight = weight
        self.knots = knots
        self.upper = upper

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
        check_gathered(z, gathered, shard)
        difference = invariance_to_mean(z, global_views)
        drawn = self.directions.draw(gathered, seed=seed, step=step, shard=shard)
        share = sigreg(gathered, drawn, knots=self.knots, upper=self.upper, num_directions=self.directions.num)
        statistic = shard.world_size * share
        return ObjectiveOutput(
            loss=(1 - self.weight) * difference + self.weight * statistic,
            parts={"invariance": difference.detach(), "sigreg": statistic.detach()},
        )

    @property
    @override
    def needs_gathering(self) -> bool:
        return True

    @property
    @override
    def init_args(self) -> dict[str, Any]:
        return {
            "directions": asdict(self.directions),
            "weight": self.weight,
            "knots": self.knots,
            "upper": self.upper,
        }

    @property
    @override
    def law(self) -> Law:
        return Target(p=2.0, rectified=False).law()

    @override
    def description(self) -> dict[str, str | int | float]:
        return {
            "objective": "LeJEPA",
            "target": "standard normal",
            "directions": self.directions.num,
            "kind of directions": self.directions.kind,
            "weight of SIGReg": self.weight,
            "knots": f"{self.knots} on [0, {self.upper:g}]",
        }
