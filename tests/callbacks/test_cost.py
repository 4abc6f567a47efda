"""What a run costs: seconds for each step, without validation, and the peak of its memory."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_jepa import digits, quiet_trainer, tiny_model
from tiny_run import TinyModule, batches, fit, tiny_trainer

from rectified_lpjepa.callbacks import AtomicCheckpointIO, RunCheckpoint, RunCost, RunSummary, cost


class TimedModule(TinyModule):
    """A step takes two seconds, but three in the first epoch and five in the last; a validation takes a thousand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now = 0.0
        monkeypatch.setattr(cost, "time", SimpleNamespace(monotonic=lambda: self.now))

    def training_step(self, batch, batch_idx):
        self.now += {0: 3.0, 3: 5.0}.get(self.current_epoch, 2.0)
        return super().training_step(batch, batch_idx)

    def on_validation_epoch_start(self):
        self.now += 1000.0
        super().on_validation_epoch_start()


def test_the_median_over_epochs_knows_nothing_of_validation(tmp_path, monkeypatch):
    measured = RunCost()
    trainer = tiny_trainer(tmp_path, [measured], 4, enable_checkpointing=False)
    fit(trainer, TimedModule(monkeypatch))
    assert measured.measured(trainer)["seconds_per_step"] == pytest.approx(2.5)


def test_a_step_is_one_of_the_optimiser(tmp_path, monkeypatch):
    measured = RunCost()
    trainer = tiny_trainer(tmp_path, [measured], 1, enable_checkpointing=False, accumulate_grad_batches=2)
    fit(trainer, TimedModule(monkeypatch))
    assert measured.measured(trainer)["seconds_per_step"] == pytest.approx(6.0)


def test_a_run_that_goes_on_remembers(tmp_path, monkeypatch):
    arguments = {"plugins": [AtomicCheckpointIO()]}
    fit(tiny_trainer(tmp_path, [RunCost(), RunCheckpoint()], 3, **arguments), TimedModule(monkeypatch))
    measured = RunCost()
    trainer = tiny_trainer(tmp_path, [measured, RunCheckpoint()], 4, **arguments)
    fit(trainer, TimedModule(monkeypatch), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert measured.measured(trainer)["seconds_per_step"] == pytest.approx(2.5)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the reference is Linux's own count")
def test_memory_is_the_peak_of_the_process(tmp_path):
    measured = RunCost()
    trainer = tiny_trainer(tmp_path, [measured], 1, enable_checkpointing=False)
    fit(trainer, TinyModule())
    status = Path("/proc/self/status").read_text()
    expected = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20
    assert measured.measured(trainer)["peak_memory_gib"] == pytest.approx(expected, rel=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_is_that_of_the_gpu(tmp_path):
    measured = RunCost()
    trainer = tiny_trainer(tmp_path, [measured], 1, enable_checkpointing=False, accelerator="cuda")
    fit(trainer, TinyModule())
    assert measured.measured(trainer)["peak_memory_gib"] == torch.cuda.max_memory_allocated() / 2**30


def test_nothing_is_said_of_steps_before_the_end_of_an_epoch(tmp_path):
    measured = RunCost()
    trainer = tiny_trainer(tmp_path, [measured], 1, enable_checkpointing=False, max_steps=2)
    trainer.fit(TinyModule(), batches(4), batches(2))
    assert set(measured.measured(trainer)) == {"peak_memory_gib"}


def test_the_result_of_a_run_has_it(tmp_path):
    measured = RunCost()
    trainer = quiet_trainer(tmp_path, [RunSummary(), measured])
    trainer.fit(tiny_model(), digits())
    found = json.loads((tmp_path / "result.json").read_text())["cost"]
    later = measured.measured(trainer)
    assert found == later | {"peak_memory_gib": pytest.approx(later["peak_memory_gib"], rel=0.02)}  # it may have grown
    assert 0 < found["seconds_per_step"] < 60
