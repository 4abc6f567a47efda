"""Features of altered copies of the test images.

Shape suffixes: B images of a batch, C channels, S side of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from rectified_lpjepa.evaluation.features import FeatureSet, Subject

Alteration = Callable[[Tensor, range], Tensor]
"""Altered copies of images (B, C, S, S), float32 in [0, 1], and the places of these images in their split."""


def altered_features(subject: Subject, alterations: Mapping[str, Alteration]) -> dict[str, FeatureSet]:
    """Compute the features of altered copies of all test images, which are read once.

    Args:
        subject: what to evaluate.
        alterations: by name. An image must be altered in the same way whatever batch it comes in.

    Returns:
        The features of each alteration, with the labels of the images.
    """
    parts: dict[str, list[FeatureSet]] = {name: [] for name in alterations}
    labels: list[Tensor] = []
    first = 0
    for images_BCSS, labels_B in subject.batches("test"):
        places = range(first, first + len(images_BCSS))
        for name, alter in alterations.items():
            parts[name].append(subject.embed(alter(images_BCSS, places)))
        labels.append(labels_B.cpu())
        first = places.stop
    labels_N = torch.cat(labels)
    return {
        name: replace(_joined(sets), labels=labels_N, num_classes=subject.data.num_classes)
        for name, sets in parts.items()
    }


def _joined(sets: Sequence[FeatureSet]) -> FeatureSet:
    names = [part.name for part in fields(FeatureSet) if isinstance(getattr(sets[0], part.name), Tensor)]
    parts: dict[str, Any] = {name: torch.cat([getattr(one, name) for one in sets]) for name in names}
    return replace(sets[0], **parts)
