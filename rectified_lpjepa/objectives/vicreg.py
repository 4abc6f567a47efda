"""The loss of VICReg: invariance, variance and covariance of the features."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.functional.invariance import invariance
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.functional.vicreg import covariance_penalty, variance_hinge
from rectified_lpjepa.objectives.gathering import check_gathered
from rectified_lpjepa.objectives.objective import Objective, ObjectiveOutput
from rectified_lpjepa.objectives.ranges import check_not_negative


class VICReg(Objective):
    """Variance-invariance-covariance regularisation (arXiv 2105.04906); on rectified features it is NVICReg.

        loss = invariance_weight · mean (z − z')²
             + variance_weight · Σ_views variance hinge + covariance_weight · Σ_views covariance penalty

    The invariance is the mean over samples, features and pairs of views; the two other terms are summed over the views:
    see :func:`~rectified_lpjepa.functional.vicreg.variance_hinge` and
    :func:`~rectified_lpjepa.functional.vicreg.covariance_penalty`. They are those of the global batch: each of several
    processes takes its share of the features' variances and of the rows of the covariance matrix.

    Args:
        invariance_weight: at least 0.
        variance_weight: at least 0.
        covariance_weight: at least 0.

    Raises:
        ValueError: if a weight is negative or not finite.
    """

    def __init__(
        self, invariance_weight: float = 25.0, variance_weight: float = 25.0, covariance_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
        for name, weight in self.init_args.items():
            check_not_negative(name, weight)

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
        features = shard.rows(gathered.shape[-1])
        difference = invariance(z)
        variance = shard.world_size * variance_hinge(gathered, features)
        covariance = shard.world_size * covariance_penalty(gathered, features)
        return ObjectiveOutput(
            loss=self.invariance_weight * difference
            + self.variance_weight * variance
            + self.covariance_weight * covariance,
            parts={
                "invariance": difference.detach(),
                "variance": variance.detach(),
                "covariance": covariance.detach(),
            },
        )

    @property
    @override
    def needs_gathering(self) -> bool:
        return True

    @property
    @override
    def init_args(self) -> dict[str, Any]:
        return {
            "invariance_weight": self.invariance_weight,
            "variance_weight": self.variance_weight,
            "covariance_weight": self.covariance_weight,
        }

    @property
    @override
    def law(self) -> None:
        return None

    @override
    def description(self) -> dict[str, str | int | float]:
        return {
            "objective": "VICReg",
            "invariance weight": self.invariance_weight,
            "variance weight": self.variance_weight,
            "covariance weight": self.covariance_weight,
        }
