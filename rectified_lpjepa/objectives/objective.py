"""What an objective is: a loss on the projector features of all views.

Shape suffixes: V views, B samples of this process, W processes, D features.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor, nn

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.functional.sharding import Shard


class ObjectiveOutput(NamedTuple):
    """The loss of one step and what it is made of."""

    loss: Tensor
    """Scalar to minimise. Averaged over the processes, by gradients or for a log, it is that of the global batch."""
    parts: dict[str, Tensor]
    """The terms by name: detached scalars before weighting."""


class Objective(nn.Module, ABC):
    """A loss on projector features z (V, B, D).

    Every random draw is a function of (seed, step), so that all processes agree without talking.
    """

    @abstractmethod
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
        """Compute the loss.

        Args:
            z: features (V, B, D) of this process.
            gathered: features (V, W·B, D) of all processes in the order of their ranks, with a gradient to every
                process; ``z`` itself for one process, and where :attr:`needs_gathering` is false.
            seed: seed of the run.
            step: number of the step, 0-based.
            shard: this process's share: of the work on the gathered features, which may be all of it on every process,
                or, where nothing is gathered, of the batch.
            labels: int64 (B,) of this process's samples, -1 for a sample without one: only for a loss that is
                supervised, as an upper bound.
            global_views: how many of the views, the first ones, show most of an image, for a loss that treats the local
                crops after them otherwise; None for all.
        """

    @property
    @abstractmethod
    def needs_gathering(self) -> bool:
        """Whether the loss is one of the global batch, for which every process needs the features of all."""

    @property
    def is_per_process(self) -> bool:
        """Whether each process has a loss of its own part of the batch, whose mean is not that of the global batch.

        Its value then depends on the number of processes. Not so a mean over samples, which needs no gathering either.
        """
        return False

    @property
    @abstractmethod
    def init_args(self) -> dict[str, Any]:
        """The constructor's arguments as plain numbers, strings, lists and dicts."""

    @property
    @abstractmethod
    def law(self) -> Law | None:
        """The distribution that each feature is asked to follow: theory beside the measurements; None for no law."""

    @abstractmethod
    def description(self) -> dict[str, str | int | float]:
        """Return the facts worth printing at the start of a run, by name."""
