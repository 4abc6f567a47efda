"""The strategies by their names, and on one process."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import StrategyRegistry

from rectified_lpjepa.distributed import AllGatherDDPStrategy, all_gather_views, check_equal_shapes, current_shard
from rectified_lpjepa.objectives import Shard

ON_TWO = {"accelerator": "cpu", "devices": 2, "logger": False, "enable_progress_bar": False}


def test_trainer_knows_it_by_name():
    assert "ddp_all_gather" in StrategyRegistry.available_strategies()
    trainer = Trainer(strategy="ddp_all_gather", **ON_TWO)
    assert isinstance(trainer.strategy, AllGatherDDPStrategy)
    assert trainer.world_size == 2


def test_slices_are_replicated_under_a_name_of_their_own():
    slices = {}
    for name in ("ddp_all_gather", "ddp_all_gather_replicated"):
        strategy = Trainer(strategy=name, **ON_TWO).strategy
        assert isinstance(strategy, AllGatherDDPStrategy)
        slices[name] = strategy.slices
    assert list(slices.values()) == ["sharded", "replicated"]
    with pytest.raises(ValueError, match=r"no slices 'shared'\. Choose one of sharded, replicated"):
        AllGatherDDPStrategy("shared")


def test_takes_the_arguments_of_ddp():
    strategy = AllGatherDDPStrategy(process_group_backend="gloo", find_unused_parameters=True)
    assert strategy.process_group_backend == "gloo"
    assert strategy._ddp_kwargs == {"find_unused_parameters": True}


def test_one_process_gathers_nothing():
    z = torch.ones(2, 3, 4, dtype=torch.bfloat16)
    strategy = AllGatherDDPStrategy()
    assert strategy.shard == current_shard() == Shard(0, 1)
    assert all_gather_views(z) is z
    assert strategy.gather_views(z) is z
    check_equal_shapes(z)
