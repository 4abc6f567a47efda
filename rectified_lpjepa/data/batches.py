"""What travels from the data to the model: a batch as stored, and the views made of it on the device.

Shape suffixes: V global views, L local crops, B samples of this process, C channels, H height, W width, S side of a
global view, s of a local crop.
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
    """uint8 (B, C, H, W) in evaluation, crops made on the host (V, B, C, S, S) in training; None for a data set in
    memory, whose images are taken where the model runs, by their indices."""
    labels: Tensor
    """int64 (B,), -1 for samples without a label."""
    number: int
    """Number of the batch in the run, from 0: epoch times batches per epoch plus batch; in evaluation, the batch."""
    indices: Tensor
    """int64 (B,), the position of each sample in its data set."""
    parameters: ViewParameters | None
    """The random numbers of each global view of each sample; None in evaluation."""
    local_images: Tensor | None = None
    """Local crops made on the host, uint8 (L, B, C, s, s); None where there are none, or the data set is in memory."""
    local_parameters: ViewParameters | None = None
    """The random numbers of each local crop of each sample; None where there are none."""


class Views(NamedTuple):
    """What the model gets: images on its device, not yet normalised."""

    images: Tensor
    """float32 in [0, 1]: the global views (V, B, C, S, S) in training, (B, C, S, S) in evaluation."""
    labels: Tensor
    """int64 (B,), -1 for samples without a label."""
    number: int
    """Number of the batch, as in :class:`Batch`."""
    indices: Tensor
    """int64 (B,), the position of each sample in its data set."""
    local: Tensor | None = None
    """The local crops, float32 in [0, 1] (L, B, C, s, s); None where there are none."""
