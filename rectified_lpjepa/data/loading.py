"""Loaders that answer a sampler's requests with batches, each with the keyed randomness that its views need."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from rectified_lpjepa.data.augmentations import Augmentation
from rectified_lpjepa.data.batches import Batch, Split
from rectified_lpjepa.data.images import Images, InMemoryImages
from rectified_lpjepa.data.sampler import BatchRequest, GlobalBatchSampler
from rectified_lpjepa.functional.randomness import keyed_generator


class BatchDataset(Dataset[Batch]):
    """Answers the requests of a sampler with batches; with a recipe for training, without one for evaluation."""

    def __init__(
        self,
        split: Split,
        images: Images | InMemoryImages,
        augmentation: Augmentation | None,
        views: int,
        seed: int,
    ) -> None:
        self.split = split
        self.labels = images.labels
        self.files = None if isinstance(images, InMemoryImages) else images
        self.augmentation = augmentation
        self.views = views
        self.seed = seed

    @override
    def __getitem__(self, request: BatchRequest) -> Batch:
        indices = torch.tensor(request.indices, dtype=torch.int64)
        parameters = images = None
        if self.augmentation is not None:
            # The table is the global batch's, so that a sample's views do not depend on the number of processes.
            generator = keyed_generator(self.seed, "views", request.number)
            table = self.augmentation.draw(self.views, request.global_batch, generator=generator)
            parameters = table.rows(request.start, request.start + len(indices))
        if self.files is not None:
            images = (
                self.files.read_evaluation(indices)
                if parameters is None
                else self.files.read_training(indices, parameters)
            )
        return Batch(self.split, images, self.labels[indices], request.number, indices, parameters)


def leave_signals_to_the_run(_: int) -> None:
    """Let a worker work on while the run that it belongs to is asked to stop, and until that ends it.

    Clusters and terminals send a signal to all processes of a job, and a run of several processes goes on to the next
    step that all of them log.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class LateLoader(DataLoader[Batch]):
    """A loader that looks at its sampler when the first batch is asked for.

    Lightning takes the iterator before it tells the sampler the epoch of a resumed run, and workers would start at
    once on the order of epoch 0.
    """

    @override
    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        yield from super().__iter__()

    @override
    def _get_iterator(self) -> Any:
        iterator = super()._get_iterator()
        for worker in getattr(iterator, "_workers", ()):
            # Python ends what is left of them by SIGTERM, which they do not heed, and would wait for ever.
            worker._popen.terminate = worker._popen.kill
        return iterator


class TrainingLoader(LateLoader):
    """A loader that can go on in the midst of an epoch; Lightning keeps its state in checkpoints."""

    sampler: GlobalBatchSampler
    _first = 0
    _given = 0

    @override
    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.sampler.first_batch = self._given = self._first
        self._first = 0
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Say how many batches of its epoch the loader has given, those before a stop included."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass start behind the batches that were given."""
        self._first = state["batches"]
