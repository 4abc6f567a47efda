"""Compute the features of a data set, on one process or several, and keep them in files.

Shape suffixes: V views, B samples, C channels, S side of an image, F features.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from typing_extensions import override

from rectified_lpjepa.callbacks import FeatureWriter, ProgressBar
from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.data.batches import Batch, Views
from rectified_lpjepa.data.image_ops import grey_values
from rectified_lpjepa.distributed import AllGatherDDPStrategy
from rectified_lpjepa.distributed.first import say_first
from rectified_lpjepa.preflight import check_launch, requested_layout, usable_accelerator
from rectified_lpjepa.slurm import srun_environment

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Devices:
    """Where features are computed.

    Args:
        accelerator: ``cpu``, ``gpu``, or ``auto`` for the best there is.
        devices: processes on each node; under torchrun it is what that was told.
        num_nodes: number of nodes; under torchrun it is what that was told.
    """

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1

    def trainer(self, **arguments: Any) -> Trainer:
        """Make a trainer that predicts, and writes no logs and no checkpoints.

        Raises:
            ValueError: other processes were started than were asked for, or a GPU of Apple's is.
        """
        devices, num_nodes = self.devices, self.num_nodes
        if TorchElasticEnvironment.detect():
            devices = int(os.environ["LOCAL_WORLD_SIZE"])
            num_nodes = int(os.environ["WORLD_SIZE"]) // devices
        try:
            accelerator = usable_accelerator(self.accelerator)
            asked = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes, "plugins": None}
            layout = requested_layout(asked, batch_size=None)
            if layout is not None:
                check_launch(os.environ, layout)
        except ValueError as error:  # the options have shorter names here than in `fit`
            raise ValueError(str(error).replace("--trainer.", "--")) from error
        srun = srun_environment()
        return Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=AllGatherDDPStrategy.strategy_name if devices * num_nodes > 1 else "auto",
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            plugins=None if srun is None else [srun],
            **arguments,
        )


class Extractor(LightningModule):
    """Give the features of batches of images, or of several views of them.

    Args:
        network: from images (B, C, S, S) to features by name.
        in_channels: number C of channels that the network takes.
    """

    def __init__(self, network: nn.Module, in_channels: int) -> None:
        super().__init__()
        self.network = network
        self.in_channels = in_channels

    @override
    def print(self, *args: Any, **kwargs: Any) -> None:
        """Keep still about files of features, which are an evaluation's own affair."""

    @override
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features of images, float32 in [0, 1] (B, C, S, S)."""
        features: dict[str, Tensor] = self.network(images)
        return features

    @override
    def predict_step(self, batch: Views, batch_idx: int) -> dict[str, Tensor]:
        images = with_channels(batch.images, self.in_channels)
        if images.ndim == 4:
            features = self(images)
        else:
            views = [self(view) for view in images]
            features = {name: torch.stack([view[name] for view in views], dim=1) for name in views[0]}
        return {**features, "labels": batch.labels, "indices": batch.indices}


class _Pass(LightningDataModule):
    """One pass over a data set, with a loader of its own choice."""

    def __init__(self, data: TwoViewDataModule, loader: Callable[[TwoViewDataModule], DataLoader[Batch]]) -> None:
        super().__init__()
        self.data = data
        self.loader = loader

    @override
    def predict_dataloader(self) -> DataLoader[Batch]:
        self.data.trainer = self.trainer
        return self.loader(self.data)

    @override
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return self.data.on_after_batch_transfer(batch, dataloader_idx)

    @override
    def teardown(self, stage: str) -> None:
        self.data.trainer = None


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Bring images to a number of channels: colours to their grey value, grey to three equal channels.

    Args:
        images: floating point (..., C, S, S), with C of 1 or 3.
        channels: 1 or 3.

    Returns:
        (..., channels, S, S).
    """
    if images.shape[-3] == channels:
        return images
    if channels == 3:
        return images.expand(*images.shape[:-3], 3, *images.shape[-2:])
    greys: Tensor = grey_values(images.flatten(0, -4)).unflatten(0, images.shape[:-3])
    return greys


def extract(
    extractor: Extractor,
    data: TwoViewDataModule,
    loader: Callable[[TwoViewDataModule], DataLoader[Batch]],
    path: Path,
    devices: Devices,
) -> None:
    """Compute features on all processes, with a progress bar, and write them to one file.

    Args:
        extractor: the model.
        data: the data set.
        loader: makes the loader of one process's part of it.
        path: file to write, see :class:`~rectified_lpjepa.callbacks.FeatureWriter`; features of several views are
            (n, V, F).
        devices: where to compute.
    """
    trainer = devices.trainer(callbacks=[FeatureWriter(str(path)), ProgressBar()], default_root_dir=str(path.parent))
    trainer.predict(extractor, datamodule=_Pass(data, loader), return_predictions=False)


def read_features(path: Path, positions: Tensor) -> Arrays | None:
    """Read a file of features if it is whole and of these samples.

    Args:
        path: the file.
        positions: the samples, int64 (n,).

    Returns:
        Arrays by name; None where there is no such file, or it must be made anew.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = dict(file)
        is_whole = np.array_equal(arrays["indices"], positions.numpy())
        is_whole &= all(len(arrays[name]) == len(positions) for name in {"encoder", "labels", *arrays})
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError):
        is_whole = False
    if not is_whole:
        say_first(f"{path} is damaged, or of other samples; it is made anew")
        return None
    return arrays


def said_by_first(value: Any) -> Any:
    """Return the value of the first process on all of those that have found each other; plain values only."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def barrier() -> None:
    """Wait for all processes that have found each other."""
    if dist.is_initialized():
        dist.barrier()


def is_first() -> bool:
    """Say whether this is the first of all processes, whether they have found each other or not."""
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined]  # Lightning sets it when it is imported
    return rank == 0
