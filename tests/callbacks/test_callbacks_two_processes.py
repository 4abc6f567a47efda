"""Two processes with different data, where a callback that acts on one of them alone would hang or lose samples."""

import os
import socket
import warnings
from pathlib import Path

import numpy as np
import torch.multiprocessing
from tiny_run import Batches, TinyModule, batches, tiny_trainer

from rectified_lpjepa.callbacks import (
    AtomicCheckpointIO,
    FeatureWriter,
    FigureWriter,
    FiniteCheck,
    ProgressBar,
    RunCheckpoint,
)


class Predicting(TinyModule):
    def predict_step(self, batch):
        column = batch[:, None]
        features = {"encoder": column, "preactivations": -column, "projector": column**2}
        return {**features, "labels": batch, "indices": batch}


def work(rank: int, path: Path, port: int) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    elastic = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    elastic |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {name: str(value) for name, value in elastic.items()}
    arguments = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}

    writer = tiny_trainer(path, [FeatureWriter()], **arguments)
    share = [torch.arange(rank, 9, 2)[:3], torch.arange(rank, 9, 2)[3:]]
    writer.predict(Predicting(), Batches(share), return_predictions=False)

    history = FigureWriter()
    callbacks = [FiniteCheck(), history, ProgressBar(), RunCheckpoint(1)]
    trainer = tiny_trainer(path, callbacks, 2, enable_progress_bar=True, plugins=[AtomicCheckpointIO()], **arguments)
    trainer.fit(TinyModule(), batches(4, seed=rank), batches(2, seed=10 + rank))
    (path / f"history-{rank}").write_text(repr(history.history))

    # A term of the second process alone is bad: both must stop, at the same place.
    trainer = tiny_trainer(path / "bad", [FiniteCheck()], enable_checkpointing=False, **arguments)
    try:
        trainer.fit(TinyModule(5, "rdmreg", bad_rank=1), batches(4, seed=rank), batches(2))
    except FloatingPointError as error:
        (path / f"error-{rank}").write_text(str(error))
    torch.distributed.destroy_process_group()


def test_two_processes_agree(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(work, (tmp_path, port), nprocs=2)

    with np.load(tmp_path / "features.npz") as features:
        np.testing.assert_array_equal(features["indices"], np.arange(9))
        np.testing.assert_array_equal(features["projector"][:, 0], np.arange(9) ** 2)
    histories = [(tmp_path / f"history-{rank}").read_text() for rank in range(2)]
    assert histories[0] == histories[1]
    assert "val/sparsity/l0" in histories[0]
    kept = sorted(file.name for file in (tmp_path / "checkpoints").iterdir())
    assert kept == ["epoch-0001.ckpt", "epoch-0002.ckpt", "last.ckpt", "previous.ckpt"]
    assert (tmp_path / "figures" / "feature_histogram.png").exists()
    errors = [(tmp_path / f"error-{rank}").read_text() for rank in range(2)]
    assert errors[0] == errors[1]
    assert "'rdmreg' is first not finite at step 5" in errors[0]
