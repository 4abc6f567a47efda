"""What an evaluation is given, and what it gives: a model, features, and numbers by name.

Shape suffixes: N samples, F encoder features, D projector features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.data.batches import Split
from rectified_lpjepa.distributions import Law


@dataclass(frozen=True)
class FeatureSet:
    """The features of one split of a data set, in its order, on the CPU.

    Attributes:
        encoder: output of the backbone, float32 (N, F).
        labels: int64 (N,), -1 for samples without a label.
        num_classes: number of classes; None for unlabelled data.
        preactivations: output of the projector before the rectifier, float32 (N, D); None for a model without one.
        projector: the same behind the rectifier, float32 (N, D); None for a model without one.

    Raises:
        ValueError: features and labels differ in number, or a feature is not finite.
    """

    encoder: Tensor
    labels: Tensor
    num_classes: int | None
    preactivations: Tensor | None = None
    projector: Tensor | None = None

    def __post_init__(self) -> None:
        for name, features in self._tensors():
            if len(features) != len(self.labels):
                raise ValueError(f"There are {len(features)} rows of {name} features and {len(self.labels)} labels.")
            if features.is_floating_point() and not bool(features.isfinite().all()):
                rows = (~features.isfinite()).any(dim=-1).nonzero().flatten()
                raise ValueError(
                    f"The {name} features of {len(rows)} of {len(features)} samples are not finite, the first of them "
                    f"sample {int(rows[0])}. Such a model cannot be evaluated. HINT: was its training finite? "
                    "`--trainer.precision 32` and a lower learning rate help."
                )

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Tensor):
                yield part.name, value

    def __len__(self) -> int:
        """Return the number N of samples."""
        return len(self.labels)

    def kinds(self) -> dict[str, Tensor]:
        """Return the features that classifiers are trained on, by name: ``encoder``, and ``projector`` if any."""
        named = {"encoder": self.encoder, "projector": self.projector}
        return {name: features for name, features in named.items() if features is not None}

    def rows(self, indices: Tensor) -> FeatureSet:
        """Return some of the samples.

        Args:
            indices: int64 (n,), or bool (N,).
        """
        parts: dict[str, Any] = {name: value[indices] for name, value in self._tensors()}
        return replace(self, **parts)


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found: plain numbers, ready to be written as JSON.

    Attributes:
        name: of the evaluation, such as ``knn``.
        protocol: how it was done: every setting and every choice that its numbers depend on, as plain values.
        metrics: numbers by name. A name says feature, protocol and quantity, such as ``encoder/knn20_cosine/top1``;
            accuracies and other shares are fractions in [0, 1].
        details: what figures are drawn from: lists of numbers, and dicts of them.
    """

    name: str
    protocol: Mapping[str, Any]
    metrics: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)


class Subject(Protocol):
    """A model and the data that it was trained on: what an evaluation looks at.

    Attributes:
        data: the data set that the model was trained on, or the one that was asked for in its place.
        law: the distribution that each projector feature was asked to follow; None for a model without a target.
        rectified: whether the model's projector features pass a rectifier.
        seed: of every draw of an evaluation.
        device: where to compute.
    """

    data: TwoViewDataModule
    law: Law | None
    rectified: bool
    seed: int
    device: torch.device

    def features(self, split: Split, data: TwoViewDataModule | None = None) -> FeatureSet:
        """Return the features of a split, each sample once and without augmentation; computed once, then cached.

        Args:
            split: ``train`` is the part that the model was trained on.
            data: another data set, as :meth:`open` gives it; None for the subject's own.
        """

    def views(self, split: Split, samples: int, draw: int = 0) -> list[FeatureSet]:
        """Return the features of augmented views of some samples of the subject's data, one set for each view.

        Args:
            split: where to take the samples.
            samples: how many, evenly over the split; all of them where it has fewer.
            draw: number of the draw: another one gives other views of the same samples.
        """

    def batches(self, split: Split, data: TwoViewDataModule | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the images of a split, float32 in [0, 1] (B, C, S, S) on the device, and their labels, int64 (B,)."""

    def embed(self, images: Tensor) -> FeatureSet:
        """Compute the features of images (B, C, S, S), float32 in [0, 1] and on the device; labels are -1."""

    def open(self, name: str) -> TwoViewDataModule:
        """Open a data set for this model: at its image size, and with its number of channels.

        Args:
            name: path of an ``.npz`` file or of an image folder, or the name of one of torchvision's data sets.
        """


def require_labels(features: FeatureSet, what: str) -> int:
    """Return the number of classes.

    Raises:
        ValueError: a sample has no label, or there is only one class.
    """
    if features.num_classes is None or bool((features.labels < 0).any()):
        raise ValueError(f"{what} needs a label for each sample, and these data have none. HINT: name labelled data.")
    if len(torch.unique(features.labels)) < 2:
        raise ValueError(
            f"{what} needs samples of two classes or more; all {len(features)} samples are of one. HINT: name data of "
            "several classes, with samples of two of them or more for training and for testing."
        )
    return features.num_classes
