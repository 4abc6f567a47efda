"""The command itself: what it prints, and its exit codes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from rectified_lpjepa.doctor import command as module
from rectified_lpjepa.doctor.machine import Machine
from rectified_lpjepa.doctor.training import Training, read_training
from rectified_lpjepa.main import main

ROOT = Path(__file__).parents[2]
SOUND = Machine(
    versions={"torch": "2.15.0", "torchvision": "0.29.2", "wandb": None},
    torchvision_build="cpu",
    threads=4,
    cores=4,
    shared_memory=2**31,
    environment={"SLURM_JOB_ID": "7"},
)


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, machine: Machine) -> int:
    monkeypatch.setattr(module, "look", lambda: machine)
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    try:
        main(["doctor", *arguments])
    except SystemExit as end:
        return cast("int", end.code)
    return 0


def test_a_sound_machine_is_described_and_exits_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert run(["--datasets", str(tmp_path)], monkeypatch, SOUND) == 0
    printed = capsys.readouterr().out
    lines = dict(re.findall(r"^(.+?) {2,}(.+)$", printed, re.MULTILINE))
    assert lines["torch"] == "2.15.0 (without CUDA)"
    assert lines["torchvision"] == "0.29.2 (cpu)"
    assert lines["wandb"] == "not installed"
    assert lines["threads"] == "4, OMP_NUM_THREADS is not set"
    assert lines["shared memory"] == "2.0 GiB free in /dev/shm"
    assert lines["started by"] == "SLURM, job 7, without srun"
    assert lines["data sets"] == "digits (of scikit-learn); cifar10"
    assert "no problem found" in printed


def test_problems_are_listed_and_exit_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = replace(SOUND, torchvision_build="cu132", shared_memory=2**26, has_mps=True)
    assert run([], monkeypatch, machine) == 1
    printed = capsys.readouterr().out
    assert printed.count("problem: ") == printed.count("expected: ") == printed.count("HINT: ") == 2
    assert "MPS has no float64" in printed


def test_a_training_is_read_as_fit_reads_it_and_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--config", str(ROOT / "configs" / "imagenet100_resnet50.yaml"), "--trainer.accelerator=cpu"]
    read = read_training([*options, "--trainer.devices=2", "--data.num_workers=3"], {})
    assert read == Training(processes=2, num_workers=3, reads_files=True)
    started = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}
    assert read_training(options, started) == Training(processes=4, num_workers=8, reads_files=True)

    assert run([*options, "--trainer.devices=3"], monkeypatch, replace(SOUND, environment={})) == 1
    printed = capsys.readouterr().out
    assert "3 processes (3 on each of 1 node(s)) cannot share it equally" in printed
    assert "`--data.num_workers 8` with 1 core(s) for each of 3 process(es)" in printed
    assert run(["--trainer.devies=3"], monkeypatch, SOUND) == 2
    printed, error = capsys.readouterr()
    assert "did you mean devices" in error
    assert "torch" not in printed
