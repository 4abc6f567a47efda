"""Means of what every step yields, kept together so that a step costs one addition."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.metric import CompositionalMetric
from torchmetrics.utilities.distributed import gather_all_tensors
from typing_extensions import override


class RunningMeans(Metric):
    """Weighted means of scalars by name, accumulated on the device without waiting for it.

    The names are those of the first update. All values of a step become one vector that is added to one sum in float64,
    and over several processes that sum is what is exchanged: a metric for each value would cost a multiple in every
    step. Before the first update there are no means.

    Example:
        >>> means = RunningMeans()
        >>> means.update({"loss": torch.tensor(4.0), "top1": torch.tensor(0.5)}, weight=3)
        >>> means.update({"loss": torch.tensor(2.0), "top1": torch.tensor(0.0)}, weight=1)
        >>> {name: value.item() for name, value in means.compute().items()}
        {'loss': 3.5, 'top1': 0.375}
    """

    is_differentiable = False
    full_state_update = False

    sums: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()
        self._is_logged = False
        self.add_state("sums", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @override
    def update(self, values: Mapping[str, Tensor], weight: float) -> None:
        """Add the values of a step.

        Args:
            values: floating-point scalars by name, the same names in every update.
            weight: of this step, such as its number of samples.
        """
        self.names = self.names or tuple(values)
        # Not in place: the sum starts as a scalar zero, and its default must stay one.
        self.sums = self.sums + torch.stack([values[name].double() for name in self.names]) * weight
        self.weight = self.weight + weight

    @override
    def compute(self) -> dict[str, Tensor]:
        """Compute the means, float64 scalars by name."""
        return dict(zip(self.names, (self.sums / self.weight).unbind() if self.names else (), strict=True))

    @override
    def reset(self) -> None:
        super().reset()
        self._is_logged = False

    def log_once(self, module: LightningModule, split: str) -> None:
        """Log each mean as ``<split>/<name>``, if this is the first step of an epoch: for its end, that is enough.

        Called after the update of each step. Lightning computes the means when the epoch ends, or when they are asked
        for then, and resets them.

        Args:
            module: the module that is in its training or validation step, an attribute of which is this object.
            split: such as ``train``.
        """
        if not self._is_logged:
            self._is_logged = True
            for name in self.names:
                entry = _Entry(itemgetter(name), self, None)
                module.log(f"{split}/{name}", entry, on_step=False, on_epoch=True, metric_attribute=f"{split}_means")

    def state_of_all(self) -> dict[str, Any]:
        """Collect the sums of all processes, for a checkpoint in the midst of an epoch; every process must call this.

        Returns:
            ``names``; ``sums`` (W, names) and ``weights`` (W,), float64, by rank. Empty where nothing was added yet.
        """
        if not self.update_count:
            return {}
        own = torch.cat([self.sums, self.weight[None]])
        rows = torch.stack(gather_all_tensors(own)) if dist.is_available() and dist.is_initialized() else own[None]
        return {"names": list(self.names), "sums": rows[:, :-1].cpu(), "weights": rows[:, -1].cpu()}

    def restore(self, state: Mapping[str, Any], rank: int, world_size: int) -> None:
        """Go on from what :meth:`state_of_all` collected: each process from its own sums, if they are as many as then.

        With another number of processes the first one takes all of it: the means are the same but for rounding.

        Args:
            state: what was collected.
            rank: number of this process.
            world_size: number of processes.
        """
        self.reset()
        if not state:
            return
        self.names = tuple(state["names"])
        sums, weights = state["sums"].to(self.device), state["weights"].to(self.device)
        if len(weights) == world_size:
            self.sums, self.weight = sums[rank].clone(), weights[rank].clone()
        elif rank == 0:
            self.sums, self.weight = sums.sum(dim=0), weights.sum()
        else:
            self.sums = torch.zeros_like(sums[0])


class _Entry(CompositionalMetric):
    """One of the means as Lightning's log wants it: a metric whose value is a scalar. To reset one resets all."""

    @property
    @override
    def device(self) -> torch.device:  # where Lightning moves it: it must take the means to no other place
        assert isinstance(self.metric_a, Metric)
        return self.metric_a.device
