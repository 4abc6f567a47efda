"""Jobs that train a tiny model, and what they leave behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cluster import Cluster, tail, wait_for
from identical import assert_identical
from run_files import checkpoint, rows

BATCHES_PER_EPOCH, EPOCHS = 20, 3
STEPS = BATCHES_PER_EPOCH * EPOCHS
HERE = Path(__file__).parent
PROGRAM = (sys.executable, "-m", "rectified_lpjepa")

# float64, so that what differs by rounding alone stays far from what differs.
TINY = f"""
seed_everything: 3
trainer:
  max_epochs: {EPOCHS}
  accelerator: cpu
  devices: 1
  precision: 64-true
  log_every_n_steps: 2
  limit_train_batches: {BATCHES_PER_EPOCH}
model:
  objective:
    class_path: rectified_lpjepa.objectives.RDMReg
    init_args:
      target: {{p: 1.0, mu: -0.5}}
      directions: {{num: 16}}
  backbone:
    name: resnet18
    kwargs: {{layers: [1, 1, 1, 1], channels: [8, 8, 16, 16]}}
  projector: {{hidden_dim: 16, out_dim: 12}}
  optimizer: {{name: adamw, lr: 0.01, probe_lr: 0.1, warmup_epochs: 1}}
data:
  class_path: rectified_lpjepa.data.DigitsDataModule
  init_args: {{batch_size: 32}}
"""

SCRIPT = """#!/bin/bash
export PYTHONPATH={path} OMP_NUM_THREADS=1
# The nodes' names are made up: no address can be had for them.
export MASTER_ADDR=127.0.0.1
{commands}
"""


class Job:
    """A batch job, of which scontrol knows the state for some minutes after its end."""

    def __init__(self, cluster: Cluster, folder: Path, name: str, commands: str, *options: str) -> None:
        self.cluster, self.output = cluster, folder / f"{name}.out"
        script = folder / f"{name}.sh"
        script.write_text(SCRIPT.format(path=f"{HERE.parents[1]}:{HERE}", commands=commands))
        asked = [f"--job-name={name}", f"--output={self.output}", "--open-mode=append", *options]
        self.number = cluster.command("sbatch", "--parsable", *asked, str(script)).strip()

    def shown(self) -> dict[str, str]:
        """Give what ``scontrol show job`` says, such as JobState, Restarts, ExitCode and NodeList."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.cluster.command("scontrol", "show", "job", "-o", self.number)))

    def wait(self, *states: str, seconds: float = 200) -> dict[str, str]:
        """Wait until the job is in one of the states, COMPLETED by default, and give what is shown then."""
        wanted = states or ("COMPLETED",)
        ended = ("FAILED", "COMPLETED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        end = time.monotonic() + seconds
        while (shown := self.shown())["JobState"] not in wanted:
            if shown["JobState"] in ended or time.monotonic() > end:
                raise AssertionError(f"job {self.number} is {shown['JobState']}, not {' or '.join(wanted)}: {shown}")
            time.sleep(0.5)
        return shown


class Run:
    """A run of the tiny model: the command that trains it, and its directory.

    Args:
        folder: of all runs.
        name: of this one.
        pace: seconds of rest before each step of ``epoch``, of all epochs for None.
    """

    def __init__(self, folder: Path, name: str, pace: float = 0.0, epoch: int | None = None) -> None:
        self.path, self._pace_file = folder / name, folder / f"{name}.step"
        configuration = folder / "tiny.yaml"
        configuration.write_text(TINY)
        self.command = [*PROGRAM, "fit", f"--config={configuration}", f"--run.dir={self.path}"]
        pacing = {
            "class_path": "pace.Pace",
            "init_args": {"seconds": pace, "file": str(self._pace_file), "epoch": epoch},
        }
        self.command.append(f"--trainer.callbacks={json.dumps([pacing])}")

    def by(self, *launcher: str, options: tuple[str, ...] = ()) -> str:
        """Write the command for a batch script."""
        return shlex.join([*launcher, *self.command, *options])

    @property
    def step(self) -> int:
        """Number of the steps that are done, 0 before the first."""
        text = self._pace_file.read_text() if self._pace_file.exists() else ""
        return int(text or 0)

    def wait_for_step(self, step: int, seconds: float = 150) -> None:
        wait_for(lambda: self.step >= step, seconds, f"step {step} of {self.path.name}")

    def kill(self) -> None:
        """Kill the first process outright."""
        os.kill(json.loads((self.path / "running.lock").read_text())["pid"], signal.SIGKILL)

    @property
    def checkpoint(self) -> dict[str, Any]:
        return checkpoint(self.path)

    @property
    def curves(self) -> list[dict[str, str]]:
        return rows(self.path)

    @property
    def metrics(self) -> dict[str, float]:
        result: dict[str, dict[str, float]] = json.loads((self.path / "result.json").read_text())
        return result["metrics"]

    @property
    def starts(self) -> list[int]:
        """The steps from which the run was started."""
        lines = (self.path / "starts.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines]


def assert_equal_bit_for_bit(run: Run, other: Run) -> None:
    """Compare weights, optimiser, schedule, logged curves and results."""
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")
    ours, theirs = ({key: one.checkpoint[key] for key in kept} for one in (run, other))
    assert_identical(ours, theirs)
    assert ours["global_step"] == STEPS
    assert run.curves == other.curves
    assert len({row["step"] for row in run.curves}) >= STEPS // 2
    assert run.metrics == other.metrics


def outputs(folder: Path) -> str:
    """Give the ends of all jobs' outputs."""
    return "\n".join(f"--- {path.name}\n{tail(path)}" for path in sorted(folder.glob("**/*.out")))
