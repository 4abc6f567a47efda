"""Which samples each process loads: rows of global batches whose make-up does not depend on the number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler, TensorDataset
from typing_extensions import override

from rectified_lpjepa.functional.randomness import keyed_generator


class BatchRequest(NamedTuple):
    """One process's share of one global batch; what a sampler asks of a data set."""

    number: int
    """Number of the batch in the run, from 0 (in evaluation: in the pass)."""
    indices: list[int]
    """Positions of this process's samples in the data set."""
    start: int
    """Row of the global batch at which this process's samples start."""
    global_batch: int
    """Number of samples in the global batch."""


class GlobalBatchSampler(DistributedSampler[BatchRequest]):
    """Shuffled training batches: the same global batches in the same order on any number of processes.

    The order of an epoch depends on the seed and the epoch alone. Rank r of W takes the rows [r·b, (r + 1)·b) of each
    global batch, b being ``batch_size`` / W. The last, incomplete batch is dropped; as the order changes with every
    epoch, so do the samples left out.

    It is a ``DistributedSampler`` so that Lightning tells it the epoch and puts no sampler of its own in its place.

    Args:
        positions: samples to draw from, int64 (n,), as positions in the data set.
        batch_size: samples of a global batch, over all processes.
        seed: seed of the run.
        num_replicas: number of processes, W.
        rank: number of this process, from 0.

    Attributes:
        first_batch: where a pass through an epoch starts; 0 but for one that was stopped before this batch.

    Raises:
        ValueError: ``batch_size`` is not a positive multiple of ``num_replicas``, or larger than n.
    """

    def __init__(
        self, positions: Tensor, batch_size: int, *, seed: int = 0, num_replicas: int = 1, rank: int = 0
    ) -> None:
        super().__init__(TensorDataset(positions), num_replicas, rank, shuffle=True, seed=seed, drop_last=True)
        if batch_size < 1 or batch_size % num_replicas:
            raise ValueError(
                f"batch_size is {batch_size}, over all {num_replicas} process(es) together. It must be a positive "
                f"multiple of their number, as every process takes an equal share: set it to "
                f"{max(1, batch_size // num_replicas) * num_replicas}, say, or change the number of devices."
            )
        if batch_size > len(positions):
            raise ValueError(
                f"batch_size is {batch_size}, but there are {len(positions)} training samples, too few for a single "
                f"batch. Set it to {len(positions)} at most, or train on more samples."
            )
        self.positions = positions
        self.batch_size = batch_size
        self.first_batch = 0

    @override
    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return len(self.positions) // self.batch_size

    @override
    def __iter__(self) -> Iterator[BatchRequest]:
        """Go through this process's share of the epoch that ``set_epoch`` named last."""
        generator = keyed_generator(self.seed, "order", self.epoch)
        order = self.positions[torch.randperm(len(self.positions), generator=generator)]
        share = self.batch_size // self.num_replicas
        for batch in range(self.first_batch, len(self)):
            first = batch * self.batch_size + self.rank * share
            yield BatchRequest(
                number=self.epoch * len(self) + batch,
                indices=order[first : first + share].tolist(),
                start=self.rank * share,
                global_batch=self.batch_size,
            )


class EvaluationSampler(DistributedSampler[BatchRequest]):
    """Evaluation batches in data set order: every sample exactly once over all processes, nothing padded.

    The samples are cut into equal consecutive pieces (sizes differ by one at most), one for each process in each batch.
    So all processes see the same number of batches, none of them empty: wrapped models that talk before each forward
    pass do not wait for one another in vain.

    Args:
        positions: samples to go through, int64 (n,), as positions in the data set.
        batch_size: samples of a global batch, over all processes, at most (two per process, should it be less).
        num_replicas: number of processes.
        rank: number of this process, from 0.
        pass_number: number of this pass over the samples, from 0: the numbers of its batches follow those of the passes
            before.

    Raises:
        ValueError: ``batch_size`` is below 1, or there are fewer samples than processes.
    """

    def __init__(
        self, positions: Tensor, batch_size: int, *, num_replicas: int = 1, rank: int = 0, pass_number: int = 0
    ) -> None:
        super().__init__(TensorDataset(positions), num_replicas, rank, shuffle=False)
        if batch_size < 1:
            raise ValueError(f"eval_batch_size is {batch_size}. It must be at least 1.")
        if len(positions) < num_replicas:
            raise ValueError(
                f"There are {len(positions)} samples to evaluate, fewer than the {num_replicas} processes. Use at most "
                f"{len(positions)} device(s)."
            )
        self.positions = positions
        self.pass_number = pass_number
        # No more batches than leave one sample for each process in each of them.
        self._batches = min(-(-len(positions) // batch_size), len(positions) // num_replicas)

    @override
    def __len__(self) -> int:
        """Count the batches of a pass."""
        return self._batches

    @override
    def __iter__(self) -> Iterator[BatchRequest]:
        """Go through this process's pieces."""
        pieces = len(self) * self.num_replicas
        bounds = [piece * len(self.positions) // pieces for piece in range(pieces + 1)]
        for batch in range(len(self)):
            first = batch * self.num_replicas
            piece = first + self.rank
            yield BatchRequest(
                number=self.pass_number * len(self) + batch,
                indices=self.positions[bounds[piece] : bounds[piece + 1]].tolist(),
                start=bounds[piece] - bounds[first],
                global_batch=bounds[first + self.num_replicas] - bounds[first],
            )
