"""Supervised training, as an upper bound."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.functional.cross_entropy import labelled_cross_entropy
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.objectives.objective import Objective, ObjectiveOutput


class CrossEntropy(Objective):
    """Cross-entropy of the labels, averaged over views and the samples that have one; the features z are the logits.

    The projector has as many outputs as there are classes, and no rectifier. Nothing is gathered: each of several
    processes averages over its own samples, and the mean over the processes is that of the global batch if all samples
    have a label, or as many on each process.
    """

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
        if labels is None:
            raise ValueError(
                "CrossEntropy is supervised, but was given no labels. HINT: train on data that has them, or choose "
                "another objective."
            )
        loss = labelled_cross_entropy(z, labels)
        return ObjectiveOutput(loss=loss, parts={"cross_entropy": loss.detach()})

    @property
    @override
    def needs_gathering(self) -> bool:
        return False

    @property
    @override
    def init_args(self) -> dict[str, Any]:
        return {}

    @property
    @override
    def law(self) -> None:
        return None

    @override
    def description(self) -> dict[str, str | int | float]:
        return {"objective": "cross-entropy of the labels"}
