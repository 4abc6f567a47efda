"""Loaders that answer a sampler's requests with batches, each with the keyed randomness that its views need."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from rectified_lpjepa.data.augmentations import Augmentation, ViewParameters
from rectified_lpjepa.data.batches import Batch, Split
from rectified_lpjepa.data.images import Images, InMemoryImages
from rectified_lpjepa.data.sampler import BatchRequest, GlobalBatchSampler
from rectified_lpjepa.functional.randomness import keyed_generator


class ViewKind(NamedTuple):
    """What is drawn for the views of one size."""

    purpose: str
    """Names their random numbers, which so do not depend on those of other views."""
    augmentation: Augmentation
    num: int
    """Number of views of each image."""
    size: int
    """Side of a view in pixels."""

    def draw(self, seed: int, request: BatchRequest) -> ViewParameters:
        """Draw the parameters of the samples of a request.

        The table is the global batch's, so that a sample's views do not depend on the number of processes.
        """
        generator = keyed_generator(seed, self.purpose, request.number)
        table = self.augmentation.draw(self.num, request.global_batch, generator=generator)
        return table.rows(request.start, request.start + len(request.indices))


class BatchDataset(Dataset[Batch]):
    """Answers the requests of a sampler with batches; with kinds of views for training, without for evaluation.

    Args:
        split: the part of the data set.
        images: of this part.
        seed: of the run.
        views: the kind of the global views; None in evaluation.
        local: the kind of the local crops; None for none.
    """

    def __init__(
        self,
        split: Split,
        images: Images | InMemoryImages,
        seed: int,
        views: ViewKind | None = None,
        local: ViewKind | None = None,
    ) -> None:
        self.split = split
        self.labels = images.labels
        self.files = None if isinstance(images, InMemoryImages) else images
        self.seed = seed
        self.views = views
        self.local = local

    @override
    def __getitem__(self, request: BatchRequest) -> Batch:
        indices = torch.tensor(request.indices, dtype=torch.int64)
        kinds = [kind for kind in (self.views, self.local) if kind is not None]
        tables = [kind.draw(self.seed, request) for kind in kinds]
        images: list[Tensor] = []
        if self.files is not None and not kinds:
            images = [self.files.read_evaluation(indices)]
        elif self.files is not None:
            sizes = [kind.size for kind in kinds]
            images = self.files.read_training(indices, list(zip(tables, sizes, strict=True)))
        # The global views come first, and what is missing is None.
        parameters, local_parameters, *_ = *tables, None, None
        first, local_images, *_ = *images, None, None
        labels = self.labels[indices]
        return Batch(self.split, first, labels, request.number, indices, parameters, local_images, local_parameters)


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
