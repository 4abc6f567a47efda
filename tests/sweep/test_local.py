"""The local launcher, end to end on tiny runs of the digits: a failure, a stop, and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from sweeps import MU, finish, planned, write_sweep

from rectified_lpjepa.sweep.command import sweep
from rectified_lpjepa.sweep.file import Resources
from rectified_lpjepa.sweep.local import environments, launch_options

TINY = """
trainer: {accelerator: cpu, log_every_n_steps: 1, limit_train_batches: 2, max_epochs: 1}
model:
  objective:
    class_path: rectified_lpjepa.objectives.RDMReg
    init_args: {target: {p: 1.0}, directions: {num: 16}}
  backbone: {name: resnet18, kwargs: {layers: [1, 1, 1, 1], channels: [8, 8, 16, 16]}}
  projector: {hidden_dim: 16, out_dim: 12}
  optimizer: {name: adamw, lr: 0.01, probe_lr: 0.1, warmup_epochs: 0}
data: {class_path: rectified_lpjepa.data.DigitsDataModule, init_args: {batch_size: 32}}
"""


@pytest.fixture
def launch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the launcher; what a failing test leaves of it is stopped."""
    with ExitStack() as stack:

        def start(file: Path, *options: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "rectified_lpjepa", "sweep", "run", str(file), *options]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            stack.enter_context(process)
            stack.callback(process.terminate)
            return process

        yield start


@pytest.mark.timeout(600)  # five runs, one after the other or two at a time
def test_a_sweep_goes_on_after_a_failed_point_and_after_a_stop(
    tmp_path: Path, launch: Callable[..., subprocess.Popen[str]]
) -> None:
    points = [{MU: -1e-05}, {MU: "much"}, {MU: -1, "trainer.max_epochs": 30, "trainer.check_val_every_n_epoch": 30}]
    file = write_sweep(tmp_path, TINY, points=points, seeds=[5])
    _, folder, plan = planned(file)
    short, broken, long = plan.entries
    process = launch(file)
    started = Path(long.run_dir) / "checkpoints" / "last.ckpt"
    while not started.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed = process.communicate()[0]
    assert process.returncode == 128 + signal.SIGINT, printed
    assert f"[1/3] finished {short.id}" in printed
    assert f"[2/3] failed {broken.id}" in printed
    assert f"[3/3] stopped {long.id}" in printed
    assert "the same command goes on" in printed
    log = (folder.logs / f"{long.id}.log").read_text()
    assert "stopped by SIGTERM" in log
    assert log.endswith("exit code 143\n")
    config = yaml.safe_load((Path(short.run_dir) / "config.yaml").read_text())
    assert config["model"]["objective"]["init_args"]["target"]["mu"] == -1e-05
    assert config["seed_everything"] == 5
    finished = (Path(short.run_dir) / "result.json").stat().st_mtime_ns

    process = launch(file, "--parallel", "2")
    printed = process.communicate()[0]
    assert process.returncode == 1, printed  # one has failed again
    assert "3 points: 1 finished, 1 stopped, 1 failed" in printed
    assert f"finished {long.id}" in printed
    assert "much" in printed.partition(f"{broken.id} failed, see")[2]  # the error
    steps = [json.loads(line)["step"] for line in (Path(long.run_dir) / "starts.jsonl").read_text().splitlines()]
    assert len(steps) == 2
    assert 0 == steps[0] < steps[1]
    assert json.loads((Path(long.run_dir) / "result.json").read_text())["steps"] == 60
    assert (Path(short.run_dir) / "result.json").stat().st_mtime_ns == finished  # not run again


def test_nothing_is_run_where_all_points_are_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_sweep(tmp_path, grid={MU: [0, -1]})
    for entry in planned(file)[2].entries:
        finish(entry)
    sweep(["run", str(file)])
    assert "nothing to run" in capsys.readouterr().out


def test_a_point_has_as_many_processes_as_on_a_cluster() -> None:
    assert launch_options(Resources()) == []
    assert launch_options(Resources(processes_per_node=2)) == ["--trainer.devices=2"]
    assert launch_options(Resources(gpus_per_node=4)) == ["--trainer.devices=4"]


def test_cores_and_gpus_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert environments(3, Resources()) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert environments(2, Resources(processes_per_node=2)) == [{"OMP_NUM_THREADS": "2"}] * 2
    assert environments(16, Resources()) == [{"OMP_NUM_THREADS": "1"}] * 16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,8")

    def devices(parallel: int, gpus: int) -> list[str]:
        return [
            environment["CUDA_VISIBLE_DEVICES"] for environment in environments(parallel, Resources(gpus_per_node=gpus))
        ]

    assert devices(3, gpus=2) == ["4,5", "6,7", "4,5"]
    assert devices(2, gpus=1) == ["4", "5"]
    assert devices(1, gpus=8) == ["4,5,6,7,8"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert environments(1, Resources(gpus_per_node=1)) == [{"OMP_NUM_THREADS": "8"}]
