"""A data module's batches and views without a trainer, on one process of several."""

from __future__ import annotations

from unittest.mock import Mock

import torch

from rectified_lpjepa.data import Batch, TwoViewDataModule, Views


def on_rank(module: TwoViewDataModule, world: int, rank: int) -> TwoViewDataModule:
    module.trainer = Mock(world_size=world, global_rank=rank)
    module.trainer.strategy.root_device = torch.device("cpu")
    return module


def views_of(module: TwoViewDataModule, batch: Batch) -> Views:
    views = module.on_after_batch_transfer(batch, 0)
    assert isinstance(views, Views)
    return views
