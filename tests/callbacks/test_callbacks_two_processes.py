"""Two processes with different data, where a callback that acts on one of them alone would hang or lose samples."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from processes import become_one_of, run_processes
from tiny_run import Batches, TinyModule, batches, tiny_trainer
from torch import Tensor

from rectified_lpjepa.callbacks import (
    AtomicCheckpointIO,
    FeatureWriter,
    FigureWriter,
    FiniteCheck,
    ProgressBar,
    RunCheckpoint,
)


class Predicting(TinyModule):
    def predict_step(self, batch: Tensor) -> dict[str, Tensor]:
        column = batch[:, None]
        features = {"encoder": column, "preactivations": -column, "projector": column**2}
        return {**features, "labels": batch, "indices": batch}


class Seen(NamedTuple):
    """What one process is left with."""

    history: dict[str, list[float]]
    error: str


def work(rank: int, world_size: int, path: Path) -> Seen:
    """Predict, train, and train with a term that is bad in the second process alone."""
    become_one_of(rank, world_size)
    arguments = {"devices": world_size, "strategy": "ddp", "use_distributed_sampler": False}
    writer = tiny_trainer(path, [FeatureWriter()], **arguments)
    share = [torch.arange(rank, 9, 2)[:3], torch.arange(rank, 9, 2)[3:]]
    writer.predict(Predicting(), Batches(share), return_predictions=False)

    figures = FigureWriter()
    callbacks = [FiniteCheck(), figures, ProgressBar(), RunCheckpoint(1)]
    trainer = tiny_trainer(path, callbacks, 2, enable_progress_bar=True, plugins=[AtomicCheckpointIO()], **arguments)
    trainer.fit(TinyModule(), batches(4, seed=rank), batches(2, seed=10 + rank))

    trainer = tiny_trainer(path / "bad", [FiniteCheck()], enable_checkpointing=False, **arguments)
    with pytest.raises(FloatingPointError) as error:
        trainer.fit(TinyModule(5, "rdmreg", bad_rank=1), batches(4, seed=rank), batches(2))
    return Seen(figures.history, str(error.value))


def test_two_processes_agree(tmp_path: Path) -> None:
    first, second = run_processes(work, 2, tmp_path)
    assert first == second
    assert "val/sparsity/l0" in first.history
    assert "'rdmreg' is first not finite at step 5" in first.error
    with np.load(tmp_path / "features.npz") as features:
        np.testing.assert_array_equal(features["indices"], np.arange(9))
        np.testing.assert_array_equal(features["projector"][:, 0], np.arange(9) ** 2)
    kept = sorted(file.name for file in (tmp_path / "checkpoints").iterdir())
    assert kept == ["epoch-0001.ckpt", "epoch-0002.ckpt", "last.ckpt", "previous.ckpt"]
    assert (tmp_path / "figures" / "feature_histogram.png").exists()
