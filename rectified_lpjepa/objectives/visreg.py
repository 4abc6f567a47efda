"""The loss of VISReg: invariance, and location, scale and shape of the features each by themselves."""

from dataclasses import asdict
from typing import Any

from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.functional.invariance_to_mean import invariance_to_mean
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.functional.visreg import sliced_wasserstein_to_normal, standardize
from rectified_lpjepa.objectives.directions import Directions
from rectified_lpjepa.objectives.gathering import check_gathered
from rectified_lpjepa.objectives.objective import Objective, ObjectiveOutput
from rectified_lpjepa.objectives.ranges import check_share
from rectified_lpjepa.objectives.target import Target


class VISReg(Objective):
    """Invariance plus distances of location, scale and shape to the standard normal law.

        loss = (1 − weight) · mean (z_v − mean of the views)²
             + weight · [mean² + (1 − std)² + SW₂²((z − mean) / (stop-gradient(std) + 1e-4), normal quantiles)]

    with the mean and the biased standard deviation of each feature over the global batch, and averages over features,
    directions and views. The quantiles are Φ⁻¹(i / (B + 1)) along every direction. What is known of VISReg leaves open
    which form its invariance has; this is LeJEPA's.

    Each of several processes takes its share of the directions on the features of all. Directions that are eigenvectors
    are those of the standardised features, which are projected.

    Args:
        directions: number and kind of the directions.
        weight: λ in [0, 1]; the authors use .9, and .6 on small data.

    Raises:
        ValueError: if the weight is out of its range.
    """

    def __init__(self, directions: Directions = Directions(num=4096), weight: float = 0.9) -> None:
        super().__init__()
        check_share("weight", weight)
        self.directions = directions
        self.weight = weight

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
        difference = invariance_to_mean(z)
        standardized = standardize(gathered)
        drawn = self.directions.draw(standardized.z, seed=seed, step=step, shard=shard)
        share = sliced_wasserstein_to_normal(standardized.z, drawn, num_directions=self.directions.num)
        shape = shard.world_size * share
        return ObjectiveOutput(
            loss=(1 - self.weight) * difference + self.weight * (standardized.location + standardized.scale + shape),
            parts={
                "invariance": difference.detach(),
                "location": standardized.location.detach(),
                "scale": standardized.scale.detach(),
                "shape": shape.detach(),
            },
        )

    @property
    @override
    def needs_gathering(self) -> bool:
        return True

    @property
    @override
    def init_args(self) -> dict[str, Any]:
        return {"directions": asdict(self.directions), "weight": self.weight}

    @property
    @override
    def law(self) -> Law:
        return Target(p=2.0, rectified=False).law()

    @override
    def description(self) -> dict[str, str | int | float]:
        return {
            "objective": "VISReg",
            "target": "standard normal",
            "directions": self.directions.num,
            "kind of directions": self.directions.kind,
            "weight of the regularisation": self.weight,
        }
