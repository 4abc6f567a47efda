"""Runs of the command line that are stopped, killed or spoilt, and how they go on."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from identical import assert_identical
from lightning.pytorch.utilities.exceptions import SIGTERMException
from run_files import checkpoint, rows

from rectified_lpjepa.callbacks import RunCheckpoint
from rectified_lpjepa.objectives import RDMReg


class StopError(Exception):
    """A run that ends in the middle."""


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_a_run_stopped_after_an_epoch_goes_on_bit_for_bit(
    command: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command("fit", f"--trainer.precision={precision}", directory=whole)

    def stop_in_the_second_epoch(self: RunCheckpoint, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "on_train_epoch_start", stop_in_the_second_epoch)
        with pytest.raises(StopError):
            command("fit", f"--trainer.precision={precision}", directory=parts)
    assert checkpoint(parts)["global_step"] == 3
    torch.rand(17)  # what the process drew in between must not matter
    command("fit", f"--trainer.precision={precision}", directory=parts)

    one, other = checkpoint(whole), checkpoint(parts)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert_identical(one[key], other[key], key)
    assert_identical(one["callbacks"]["FigureWriter"], other["callbacks"]["FigureWriter"])
    assert rows(parts) == rows(whole)
    one_result, other_result = (json.loads((d / "result.json").read_text()) for d in (whole, parts))
    assert other_result["metrics"] == one_result["metrics"]


def test_a_run_killed_before_its_result_is_finished_by_the_next_start(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    command("fit", directory=directory)
    before = json.loads((directory / "result.json").read_text())
    (directory / "result.json").unlink()
    command("fit", directory=directory)
    after = json.loads((directory / "result.json").read_text())
    assert (after["epochs"], after["steps"]) == (before["epochs"], before["steps"])
    assert after["metrics"] == {key: value for key, value in before["metrics"].items() if key.startswith("val/")}
    assert "encoder probe, top-1" in capsys.readouterr().out


def test_a_diverged_run_says_step_term_and_rate_and_keeps_the_last_good_checkpoint(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = RDMReg.forward

    def diverge(self: RDMReg, z: torch.Tensor, gathered: torch.Tensor, *, step: int, **key: Any) -> Any:
        output = forward(self, z, gathered, step=step, **key)
        if step < 45:  # batches are counted as if epochs were whole, with 44 each: this is optimiser step 4
            return output
        spoilt = output.loss * torch.nan
        return output._replace(loss=spoilt, parts=output.parts | {"rdmreg": spoilt.detach()})

    monkeypatch.setattr(RDMReg, "forward", diverge)
    directory = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        command("fit", directory=directory)
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert "'rdmreg' is first not finite at step 4" in message
    assert "weights" in message
    assert checkpoint(directory)["global_step"] == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_stopped_run_says_how_to_go_on(
    command: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    def stop_in_the_second_epoch(self: RunCheckpoint, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            signal.raise_signal(number)

    monkeypatch.setattr(RunCheckpoint, "on_train_epoch_start", stop_in_the_second_epoch)
    with pytest.raises(SystemExit) as stop:
        command("fit", directory=tmp_path / "run")
    assert stop.value.code == code
    message = f"stopped by {number.name} in epoch 2, after step 4; the same command goes on from"
    assert message in capsys.readouterr().out


def test_an_end_of_lightnings_own_is_that_by_sigterm(
    command: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(self: RunCheckpoint, trainer: Any, pl_module: Any) -> None:
        raise SIGTERMException

    monkeypatch.setattr(RunCheckpoint, "on_train_epoch_start", end)
    with pytest.raises(SystemExit) as stop:
        command("fit", directory=tmp_path / "run")
    assert stop.value.code == 143
    assert "stopped by SIGTERM in epoch 1" in capsys.readouterr().out


def test_a_job_whose_time_is_up_is_queued_again_once_the_checkpoint_is_there(
    command: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = tmp_path / "run"
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\ntest -f {directory}/checkpoints/last.ckpt\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "17")

    def signal_of(number: signal.Signals) -> Callable[..., None]:
        return lambda self, trainer, *_: signal.raise_signal(number)

    for number, says in ((signal.SIGUSR1, True), (signal.SIGTERM, False)):
        monkeypatch.setattr(RunCheckpoint, "on_train_batch_start", signal_of(number))
        with pytest.raises(SystemExit) as stop:
            command("fit", directory=directory)
        assert stop.value.code == 128 + number
        assert ("job 17 is queued again" in capsys.readouterr().out) == says
