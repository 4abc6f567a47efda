"""What travels from the data to the model: a batch as stored, and the views made of it on the device.

Shape suffixes: V views, B samples of this process, C channels, H height, W width, S side of a view.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from rectified_lpjepa.data.augmentations import ViewParameters

Split = Literal["train", "test"]

UNLABELLED = -1
"""The label of a sample that has none."""


class Batch(NamedTuple):
    """One process's rows of a global batch, with the randomness that its views will need."""

    split: Split
    """The part of the data set that the samples belong to."""
    images: Tensor | None
    """uint8 as stored (B, C, H, W), or crops made on the host (V, B, C, S, S); None for a data set in memory, whose
    images are taken where the model runs, by their indices."""
    labels: Tensor
    """int64 (B,), -1 for samples without a label."""
    number: int
    """Number of the batch in the run, from 0: epoch times batches per epoch plus batch; in evaluation, the batch."""
    indices: Tensor
    """int64 (B,), the position of each sample in its data set."""
    parameters: ViewParameters | None
    """The random numbers of each view of each sample; None in evaluation."""


class Views(NamedTuple):
    """What the model gets: images on its device, not yet normalised."""

    images: Tensor
    """float32 in [0, 1]: (V, B, C, S, S) in training, (B, C, S, S) in evaluation."""
    labels: Tensor
    """int64 (B,), -1 for samples without a label."""
    number: int
    """Number of the batch, as in :class:`Batch`."""
    indices: Tensor
    """int64 (B,), the position of each sample in its data set."""
