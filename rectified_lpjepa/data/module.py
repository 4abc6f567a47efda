"""The base of all data modules: global batches, keyed randomness, and views made where the model runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from rectified_lpjepa.data.augmentations import Augmentation, augment, colour
from rectified_lpjepa.data.batches import Batch, Split, Views
from rectified_lpjepa.data.image_ops import fit_square
from rectified_lpjepa.data.images import Images, InMemoryImages
from rectified_lpjepa.data.loading import BatchDataset, LateLoader, TrainingLoader, ViewKind, leave_signals_to_the_run
from rectified_lpjepa.data.local_crops import LocalCrops
from rectified_lpjepa.data.sampler import EvaluationSampler, GlobalBatchSampler
from rectified_lpjepa.functional.randomness import keyed_generator

FINGERPRINT_LENGTH = 16
"""Hexadecimal digits of a data set's fingerprint."""

_SUBSET_SEED = 0  # of the fixed permutation whose beginning `train_samples` takes: not the seed of a run


class TwoViewDataModule(LightningDataModule, ABC):
    """Batches of augmented views for training, and every sample exactly once for evaluation.

    Loaders move indices, and bytes where the images are files; the views are made in a batch on the device, each sample
    with its own random numbers, keyed by the seed, the number of the batch and the sample's place in the global batch.
    So neither the number of processes nor that of workers changes them.

    Args:
        image_size: side of the views, and of evaluation images, in pixels.
        augmentation: the recipe of the views, the same for all of them.
        views: number of global views of each image, at least 2 with local crops, too: every pair of them is compared,
            here in training and by some evaluations later.
        local_crops: small views besides, of small parts of the image; by default none. They leave the global views as
            they are.
        batch_size: images of a training batch over all processes together; a multiple of their number.
        eval_batch_size: images of an evaluation batch over all processes together, at most.
        train_samples: train on this many samples, the first ones of a permutation that is always the same; None for
            all of them.
        predict_split: which split ``predict`` covers.
        num_workers: processes that read image files for each training process; 0 reads in the training process itself.
            Without effect on data sets in memory, of which nothing is read while training.
        seed: seed of the run, from which the order of samples and every view follow.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        image_size: int,
        augmentation: Augmentation = Augmentation(),
        views: int = 2,
        local_crops: LocalCrops = LocalCrops(),
        batch_size: int = 256,
        eval_batch_size: int = 512,
        train_samples: int | None = None,
        predict_split: Split = "test",
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, lowest in (
            ("image_size", image_size, 1),
            ("views", views, 2),
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < lowest:
                raise ValueError(f"{name} is {value}. It must be at least {lowest}.")
        if predict_split not in ("train", "test"):
            raise ValueError(f"predict_split is {predict_split!r}. It must be 'train' or 'test'.")
        if local_crops.num and local_crops.size > image_size:
            raise ValueError(
                f"local_crops.size is {local_crops.size} and image_size {image_size}, but a local crop is no larger "
                "than a global view, usually less than half as wide. HINT: set `--data.local_crops.size "
                f"{max(1, image_size // 2)}` or below."
            )
        self.image_size = image_size
        self.augmentation = augmentation
        self.views = views
        self.local_crops = local_crops
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.train_samples = train_samples
        self.predict_split: Split = predict_split
        self.num_workers = num_workers
        self.seed = seed
        self._splits: dict[Split, Images | InMemoryImages] = {}

    # ------------------------------------------------------------------------ what each data set says of itself

    @property
    @abstractmethod
    def num_classes(self) -> int | None:
        """Number of classes; None for unlabelled data. Known before ``setup``."""

    @property
    @abstractmethod
    def in_channels(self) -> int:
        """Number of image channels. Known before ``setup``."""

    @property
    @abstractmethod
    def mean(self) -> list[float]:
        """Mean of each channel, for images in [0, 1]. Known before ``setup``."""

    @property
    @abstractmethod
    def std(self) -> list[float]:
        """Standard deviation of each channel, for images in [0, 1]. Known before ``setup``."""

    @property
    def fingerprint(self) -> str | None:
        """What tells this data set from another one read by the same class; None where the class itself says it.

        It is part of a run's identity, so that data may move but not change. Known before ``setup``.
        """
        return None

    @property
    def local_size(self) -> int | None:
        """Side of the local crops in pixels; None where there are none."""
        return self.local_crops.size if self.local_crops.num else None

    def facts(self) -> dict[str, str | int]:
        """Return the facts worth printing at the start of a run, by name. Known after ``setup("fit")``."""
        facts: dict[str, str | int] = {
            "data": type(self).__name__.removesuffix("DataModule"),
            "training images": len(self.positions("train")),
            "evaluation images": len(self.positions("test")),
            "classes": "none" if self.num_classes is None else self.num_classes,
        }
        if self.local_crops.num:
            sides = [f"{side} × {side} pixels" for side in (self.image_size, self.local_crops.size)]
            facts["views"] = f"{self.views} of {sides[0]}, and {self.local_crops.num} local crops of {sides[1]}"
        return facts

    @abstractmethod
    def load(self, split: Split) -> Images | InMemoryImages:
        """Open the images of a split. Called once for each split, in every process that needs it."""

    # -------------------------------------------------------------------------------------------------- loaders

    @override
    def setup(self, stage: str) -> None:
        """Open the splits that a stage (fit, validate, test or predict) needs, so that errors come early."""
        needed: dict[str, tuple[Split, ...]] = {"fit": ("train", "test"), "predict": (self.predict_split,)}
        for split in needed.get(stage, ("test",)):
            self.images(split)

    def images(self, split: Split) -> Images | InMemoryImages:
        """Return the images of a split, opened at the first call."""
        if split not in self._splits:
            self._splits[split] = self.load(split)
        return self._splits[split]

    def positions(self, split: Split) -> Tensor:
        """Return the samples of a split that are used, as positions in it, int64 (n,), ascending.

        Raises:
            ValueError: ``train_samples`` is below 1 or above the number of training samples.
        """
        available = len(self.images(split).labels)
        if split == "test" or self.train_samples is None:
            return torch.arange(available)
        if not 1 <= self.train_samples <= available:
            raise ValueError(
                f"train_samples is {self.train_samples}. It must lie between 1 and {available}, the number of training "
                "samples."
            )
        generator = keyed_generator(_SUBSET_SEED, "subset")
        return torch.randperm(available, generator=generator)[: self.train_samples].sort().values

    @override
    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of this process's rows of the shuffled global batches."""
        replicas, rank = self._place()
        sampler = GlobalBatchSampler(
            self.positions("train"), self.batch_size, seed=self.seed, num_replicas=replicas, rank=rank
        )
        return self._loader("train", sampler, self._global_views, self._local_views)

    @override
    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of this process's part of the evaluation split."""
        return self.evaluation_loader("test")

    @override
    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the same as :meth:`val_dataloader`."""
        return self.evaluation_loader("test")

    @override
    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of this process's part of ``predict_split``, as in evaluation."""
        return self.evaluation_loader(self.predict_split)

    def evaluation_loader(self, split: Split) -> DataLoader[Batch]:
        """Return the loader of this process's part of a split: each sample once, without augmentation."""
        replicas, rank = self._place()
        sampler = EvaluationSampler(self.positions(split), self.eval_batch_size, num_replicas=replicas, rank=rank)
        return self._loader(split, sampler)

    def views_loader(self, split: Split, samples: int, draw: int = 0) -> DataLoader[Batch]:
        """Return the loader of this process's part of the global views of some samples, each of them once.

        Args:
            split: where to take the samples.
            samples: how many, evenly over the split; all of them where it has fewer.
            draw: number of the draw, from 0: another one gives other views.

        Raises:
            ValueError: ``samples`` is below 1.
        """
        if samples < 1:
            raise ValueError(f"Views of {samples} samples were asked for. It must be at least 1.")
        replicas, rank = self._place()
        positions = self.positions(split)
        count = min(samples, len(positions))
        positions = positions[torch.arange(count) * len(positions) // count]
        sampler = EvaluationSampler(positions, self.eval_batch_size, num_replicas=replicas, rank=rank, pass_number=draw)
        return self._loader(split, sampler, self._global_views)

    @property
    def _global_views(self) -> ViewKind:
        return ViewKind("views", self.augmentation, self.views, self.image_size)

    @property
    def _local_views(self) -> ViewKind | None:
        local = self.local_crops
        return ViewKind("local crops", local.recipe(self.augmentation), local.num, local.size) if local.num else None

    def _place(self) -> tuple[int, int]:
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _loader(
        self,
        split: Split,
        sampler: GlobalBatchSampler | EvaluationSampler,
        views: ViewKind | None = None,
        local: ViewKind | None = None,
    ) -> DataLoader[Batch]:
        images = self.images(split)
        workers = 0 if isinstance(images, InMemoryImages) else self.num_workers
        kind = TrainingLoader if isinstance(sampler, GlobalBatchSampler) else LateLoader
        return kind(
            BatchDataset(split, images, self.seed, views, local),
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=leave_signals_to_the_run,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            # A generator of its own: otherwise each pass would draw a number from the global one.
            generator=keyed_generator(self.seed, "loader"),
        )

    # ---------------------------------------------------------------------------------------------------- views

    @override
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make the views of a batch on its device; what is not a :class:`Batch` passes unchanged."""
        if not isinstance(batch, Batch):
            return batch
        if batch.images is None:
            stored = self.images(batch.split)
            assert isinstance(stored, InMemoryImages)
            images = stored.take(batch.indices)
        else:
            images = batch.images
        local = None
        if batch.parameters is None:
            views = fit_square(images, self.image_size)
        elif batch.images is None:
            views = augment(images, batch.parameters, self.image_size)
            if batch.local_parameters is not None:
                local = augment(images, batch.local_parameters, self.local_crops.size)
        else:
            views = colour(images, batch.parameters)
            if batch.local_parameters is not None and batch.local_images is not None:
                local = colour(batch.local_images, batch.local_parameters)
        return Views(views, batch.labels, batch.number, batch.indices, local)
