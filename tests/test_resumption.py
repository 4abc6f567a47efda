"""Runs that are stopped anywhere and go on equal the run that was never stopped, bit for bit."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer
from run_files import checkpoint, rows
from same_runs import assert_same_run
from tiny_jepa import digits, quiet_trainer, tiny_model

from rectified_lpjepa.benchmarks.measure import threads
from rectified_lpjepa.callbacks import FigureWriter, FiniteCheck, RunCheckpoint, RunSummary
from rectified_lpjepa.loggers import run_loggers
from rectified_lpjepa.optim import Optimizer

# ------------------------------------------------------------------ within one process: every step, every kind of run


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums, and so the last bits, depend on the number of threads; and short runs are fastest with one."""
    with threads(1):
        yield


class Stop(Callback):
    """Sends a signal to its own process in the midst of a step."""

    def __init__(self, step: int) -> None:
        self.step: int | None = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.step = None  # a step may have several batches
            signal.raise_signal(signal.SIGTERM)


def train(path: Path, *stops: Callback, saves: RunCheckpoint | None = None, **arguments: Any) -> bool:
    """Start a run, or let it go on; say whether it came to its end."""
    last = path / "checkpoints" / "last.ckpt"
    step = checkpoint(path)["global_step"] if last.exists() else 0
    settings = {"max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    settings |= {"log_every_n_steps": 2, "logger": run_loggers(path, step), "enable_checkpointing": True}
    callbacks = [*stops, FiniteCheck(), FigureWriter(), saves or RunCheckpoint(), RunSummary()]
    trainer = quiet_trainer(path, callbacks, **(settings | arguments))
    model = tiny_model(optimizer=Optimizer("adamw", lr=0.08, probe_lr=0.8, warmup_epochs=0))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        trainer.fit(model, digits(), ckpt_path=str(last) if last.exists() else None, weights_only=True)
    except SystemExit:
        return False
    finally:
        assert signal.getsignal(signal.SIGTERM) is handler
    return True


KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "accumulated": (6, {"accumulate_grad_batches": 2, "limit_train_batches": 5}),
    "validated in every step": (8, {"val_check_interval": 1, "log_every_n_steps": 1}),
    "validated every second epoch": (9, {"check_val_every_n_epoch": 2, "max_epochs": 3, "limit_train_batches": 3}),
    "ends by steps": (6, {"max_steps": 6, "max_epochs": -1}),
    "whole epochs": (118, {"limit_train_batches": 1.0, "log_every_n_steps": 20}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_in_any_step_equals_the_one_that_was_not(tmp_path: Path, kind: str) -> None:
    steps, arguments = KINDS[kind]
    assert train(tmp_path / "whole", **arguments)
    assert checkpoint(tmp_path / "whole")["global_step"] == steps
    # One run that is stopped in every step (in some steps, where there are many), and goes on each time.
    for step in range(0, steps, 1 if steps < 20 else 29):
        if train(tmp_path / "parts", Stop(step), **arguments):
            break
    assert train(tmp_path / "parts", **arguments)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_signal_in_the_last_step_lets_the_epoch_and_the_run_end(tmp_path: Path) -> None:
    assert not train(tmp_path / "run", Stop(3))
    assert [row["step"] for row in rows(tmp_path / "run") if row["val/sparsity/l0"]] == ["3"]
    assert checkpoint(tmp_path / "run")["epoch"] == 1
    assert train(tmp_path / "run", Stop(7))
    assert (tmp_path / "run" / "result.json").exists()


class OutOfTime(Timer):
    """A limit of time that is reached in the midst of an epoch, after a batch."""

    def __init__(self, step: int | None) -> None:
        super().__init__("00:01:00:00")
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.step is not None and trainer.fit_loop.epoch_loop.total_batch_idx == self.step:
            self._offset += 3600
        super().on_train_batch_end(trainer)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_limit_of_time_saves_amid_an_epoch_and_is_no_end(tmp_path: Path, accumulated: int) -> None:
    arguments = {"accumulate_grad_batches": accumulated, "limit_train_batches": 8}
    assert not train(tmp_path / "parts", OutOfTime(4), **arguments)
    assert checkpoint(tmp_path / "parts")["global_step"] == (5 if accumulated == 1 else 3)
    # The time is used up, and nothing is done: the run is not finished by that.
    before = (tmp_path / "parts" / "checkpoints" / "last.ckpt").read_bytes()
    train(tmp_path / "parts", OutOfTime(None), **arguments)
    assert (tmp_path / "parts" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not (tmp_path / "parts" / "result.json").exists()
    with mock.patch.object(OutOfTime, "load_state_dict"):  # more time
        assert train(tmp_path / "parts", OutOfTime(None), **arguments)
    assert train(tmp_path / "whole", **arguments)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_early_stopping_is_an_end(tmp_path: Path) -> None:
    assert train(tmp_path, EarlyStopping("val/sparsity/l0", stopping_threshold=0.0, mode="max"), max_epochs=20)
    assert json.loads((tmp_path / "result.json").read_text())["epochs"] == 1


def test_saves_every_few_steps(tmp_path: Path) -> None:
    steps = []

    class Killed(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
            steps.append(checkpoint(tmp_path / "parts")["global_step"] if last.exists() else 0)
            if trainer.global_step == 7:
                raise KeyError("killed")

    with pytest.raises(KeyError, match="killed"):
        train(tmp_path / "parts", Killed(), saves=RunCheckpoint(every_n_steps=3))
    assert steps == [0, 0, 0, 3, 4, 4, 6, 6]
    for name in ("parts", "whole"):
        assert train(tmp_path / name, saves=RunCheckpoint(every_n_steps=3))
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
