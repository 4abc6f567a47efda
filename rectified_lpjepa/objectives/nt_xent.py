"""The contrastive loss of SimCLR and of NCL."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.functional.nt_xent import nt_xent
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.objectives.gathering import check_gathered
from rectified_lpjepa.objectives.objective import Objective, ObjectiveOutput
from rectified_lpjepa.objectives.ranges import check_positive


class NTXent(Objective):
    """Normalised temperature-scaled cross-entropy (SimCLR, arXiv 2002.05709, Eq. 1).

    On rectified features it is the loss of non-negative contrastive learning (NCL, arXiv 2403.12459). See
    :func:`~rectified_lpjepa.functional.nt_xent.nt_xent`, also for more than two views. The other rows are those of the
    global batch: each of several processes takes its own samples for anchors.

    Args:
        temperature: τ > 0.

    Raises:
        ValueError: if the temperature is not a finite number above 0.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = temperature

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
        loss = nt_xent(gathered, temperature=self.temperature, anchors=shard.rows(gathered.shape[1]))
        return ObjectiveOutput(loss=loss, parts={"nt_xent": loss.detach()})

    @property
    @override
    def needs_gathering(self) -> bool:
        return True

    @property
    @override
    def init_args(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    @property
    @override
    def law(self) -> None:
        return None

    @override
    def description(self) -> dict[str, str | int | float]:
        return {"objective": "NT-Xent", "temperature": self.temperature}
