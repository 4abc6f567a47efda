"""A subject for tests: features that a test has made, in the place of a model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rectified_lpjepa.data import DigitsDataModule, TwoViewDataModule
from rectified_lpjepa.data.batches import Split
from rectified_lpjepa.data.image_ops import fit_square
from rectified_lpjepa.distributions import Law
from rectified_lpjepa.evaluation.features import FeatureSet


class FakeSubject:
    """Gives the features that it was given, as a :class:`~rectified_lpjepa.evaluation.features.Subject`.

    Args:
        train: features of the training split.
        test: features of the test split.
        others: training and test features of further data sets, by the name that ``open`` is asked for.
        views: what ``views`` gives, for each draw: features of two views or more, of all samples that it is asked for.
        law: the target of each projector feature.
        rectified: whether the projector features are said to be rectified.
        seed: of every draw.

    Its images are the digits, at their 8 × 8 pixels; :meth:`embed` takes the pixels for the features.
    """

    def __init__(
        self,
        train: FeatureSet,
        test: FeatureSet,
        *,
        others: Mapping[str, tuple[FeatureSet, FeatureSet]] | None = None,
        views: Sequence[list[FeatureSet]] = (),
        law: Law | None = None,
        rectified: bool = True,
        seed: int = 0,
    ) -> None:
        self.data: TwoViewDataModule = DigitsDataModule(image_size=8)
        self.law = law
        self.rectified = rectified
        self.seed = seed
        self.device = torch.device("cpu")
        self._own = {"train": train, "test": test}
        self._others = others or {}
        self._views = views
        self._opened: dict[int, tuple[FeatureSet, FeatureSet]] = {}

    def features(self, split: Split, data: TwoViewDataModule | None = None) -> FeatureSet:
        if data is None or data is self.data:
            return self._own[split]
        return self._opened[id(data)][split == "test"]

    def views(self, split: Split, samples: int, draw: int = 0) -> list[FeatureSet]:
        return [view.rows(torch.arange(min(samples, len(view)))) for view in self._views[draw]]

    def batches(self, split: Split, data: TwoViewDataModule | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        data = data or self.data
        stored = data.images(split)
        for rows in data.positions(split).split(256):
            yield fit_square(stored.images[rows], data.image_size), stored.labels[rows]

    def embed(self, images: Tensor) -> FeatureSet:
        pixels = images.flatten(1)
        return FeatureSet(pixels, torch.full((len(pixels),), -1), None, pixels - 0.5, (pixels - 0.5).relu())

    def open(self, name: str) -> TwoViewDataModule:
        data = DigitsDataModule(image_size=8)
        self._opened[id(data)] = self._others[name]
        return data


class PixelSubject(FakeSubject):
    """A subject whose features are those that :meth:`embed` gives for the images of a data set."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(clusters(1), clusters(1), **arguments)

    def features(self, split: Split, data: TwoViewDataModule | None = None) -> FeatureSet:
        images, labels = (torch.cat(parts) for parts in zip(*self.batches(split, data), strict=True))
        return replace(self.embed(images), labels=labels, num_classes=(data or self.data).num_classes)


def unlabelled(preactivations: Tensor, *, rectified: bool = True) -> FeatureSet:
    """Projector features with or without a rectifier, and encoder features that equal them."""
    z = preactivations.relu() if rectified else preactivations
    return FeatureSet(z, torch.full((len(z),), -1), None, preactivations, z)


def clusters(
    samples: int, classes: int = 3, dim: int = 6, *, spread: float = 1.0, seed: int = 0, projector: bool = True
) -> FeatureSet:
    """Gaussian clusters with the classes in turn; the means, scaled to a length of about 2, depend on ``dim`` alone.

    The projector features are half as many, a rectified linear map of the encoder features.
    """
    fixed = torch.Generator().manual_seed(17)
    means = torch.randn(classes, dim, generator=fixed) * (4 / dim) ** 0.5
    mixing = torch.randn(dim, dim // 2, generator=fixed)
    labels = torch.arange(samples) % classes
    noise = torch.randn(samples, dim, generator=torch.Generator().manual_seed(seed))
    encoder = means[labels] + spread * noise
    preactivations = encoder @ mixing if projector else None
    return FeatureSet(
        encoder, labels, classes, preactivations, None if preactivations is None else preactivations.relu()
    )
