"""Signals that ask a run to stop."""

from __future__ import annotations

import signal

import lightning.pytorch as pl
import pytest
from tiny_run import TinyModule, fit, tiny_trainer

from rectified_lpjepa.callbacks import AtomicCheckpointIO, RunCheckpoint


class Interrupts(pl.Callback):
    """Ctrl-C, again and again, in one step."""

    def __init__(self, times: int) -> None:
        self.times = times

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == 2:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("times", "saved"), [(1, True), (2, False)])
def test_the_first_interrupt_saves_and_the_second_does_not_wait(tmp_path, capfd, times, saved):
    checkpoint = RunCheckpoint()
    trainer = tiny_trainer(tmp_path, [checkpoint, Interrupts(times)], plugins=[AtomicCheckpointIO()])
    with pytest.raises(SystemExit):
        fit(trainer, TinyModule())
    assert (tmp_path / "checkpoints" / "last.ckpt").exists() == saved
    assert trainer.global_step == (3 if saved else 2)
    assert checkpoint.signals.number == (signal.SIGINT if saved else None)
    assert "Ctrl-C again stops at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is not checkpoint.signals._note


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_other_handlers_are_put_back(tmp_path, number):
    def mine(*_: object) -> None:
        pass

    before = signal.signal(number, mine)
    try:
        fit(tiny_trainer(tmp_path, [RunCheckpoint()], 1, plugins=[AtomicCheckpointIO()]), TinyModule())
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, before)
