"""What the network says of images, and of several views of them.

Shape suffixes: V views, B samples, C channels, S side of an image, F encoder features, D projector's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

ViewPasses = Literal["each", "joint"]
VIEW_PASSES: tuple[ViewPasses, ...] = get_args(ViewPasses)


class Features(NamedTuple):
    """What the model says of a batch of images."""

    encoder: Tensor
    """Output of the backbone, (B, F)."""
    preactivations: Tensor
    """Output of the projector before the rectifier, (B, D)."""
    projector: Tensor
    """The same behind the rectifier, (B, D): the features z on which the objective acts."""


def features_of_views(network: Callable[[Tensor], Features], views: Tensor, passes: ViewPasses) -> Features:
    """Compute the features of several views of each image.

    Args:
        network: from images (B, C, S, S) to their features.
        views: (V, B, C, S, S).
        passes: ``each`` sends every view through the network by itself; ``joint`` all of them as one batch, over which
            batch normalisation takes its statistics.

    Returns:
        Features (V, B, F) and (V, B, D).
    """
    if passes == "each":
        of_view = [network(images) for images in views]
        return Features(*(torch.stack(parts) for parts in zip(*of_view, strict=True)))
    joint = network(views.flatten(0, 1))
    return Features(*(part.unflatten(0, views.shape[:2]) for part in joint))


def features_with_crops(
    network: Callable[[Tensor], Features], views: Tensor, crops: Tensor | None, passes: ViewPasses
) -> tuple[Features, Tensor]:
    """Compute the features of the views of a batch, and of its local crops.

    Args:
        network: from images (B, C, S, S) to their features.
        views: V global views (V, B, C, S, S).
        crops: L local crops (L, B, C, s, s); None for none.
        passes: as in :func:`features_of_views`, of global views and of crops by themselves.

    Returns:
        The features of the global views, (V, B, F) and (V, B, D), on which probes learn; and the projector's of the
        global views and, after them, of the local crops, (V + L, B, D), on which the objective acts.
    """
    features = features_of_views(network, views, passes)
    if crops is None:
        return features, features.projector
    return features, torch.cat((features.projector, features_of_views(network, crops, passes).projector))
