"""Where the images of a split come from: held in memory, or read from files by the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from rectified_lpjepa.data.augmentations import ViewParameters
from rectified_lpjepa.data.batches import UNLABELLED


class Images(Protocol):
    """The images of one split that are read from files by the batch."""

    @property
    def labels(self) -> Tensor:
        """Labels, int64 (n,), -1 for samples without one."""

    def read_training(self, indices: Tensor, views: Sequence[tuple[ViewParameters, int]]) -> list[Tensor]:
        """Read the crops of samples for training.

        Args:
            indices: int64 (B,).
            views: for each kind of views the parameters, of V views of these B samples, and the side S in pixels.

        Returns:
            For each kind the crops, uint8 (V, B, C, S, S).
        """

    def read_evaluation(self, indices: Tensor) -> Tensor:
        """Read samples for evaluation: uint8 (B, C, H, W)."""


class InMemoryImages:
    """Images that are held in memory as bytes.

    Args:
        images: uint8 (n, C, H, W).
        labels: int64 (n,), -1 for samples without a label; None for none at all.
    """

    def __init__(self, images: Tensor, labels: Tensor | None) -> None:
        self.images = images
        self.labels = torch.full((len(images),), UNLABELLED) if labels is None else labels
        self._on_device: dict[torch.device, Tensor] = {}

    def take(self, indices: Tensor) -> Tensor:
        """Take images where the indices are.

        The first call for a device moves the whole split there, once and for all; a CPU uses the memory that is there.

        Args:
            indices: int64 (B,), on any device.

        Returns:
            Images as stored, uint8 (B, C, H, W), on the same device.

        Raises:
            ValueError: the device has too little memory for the split.
        """
        device = indices.device
        if device not in self._on_device:
            try:
                self._on_device[device] = self.images.to(device)
            except torch.OutOfMemoryError as error:
                raise ValueError(
                    f"The images of a data set in memory, {self.images.nbytes / 2**30:.2f} GiB, are kept on the device "
                    f"that trains, and {device} has no room for them. HINT: store them as image files and use "
                    "`--data ImageFolderDataModule`, or take a device with more memory."
                ) from error
        return self._on_device[device].index_select(0, indices)

    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Compute mean and (biased) standard deviation of each channel, for images in [0, 1], from exact counts."""
        means, stds = [], []
        values = torch.arange(256, dtype=torch.float64) / 255
        for channel in self.images.unbind(1):
            share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
            mean = (share * values).sum()
            means.append(float(mean))
            stds.append(float((share * (values - mean).square()).sum().sqrt()))
        return means, stds
