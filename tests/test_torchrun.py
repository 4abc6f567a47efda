"""torchrun starts the program: two processes share one run directory and end with one process's numbers.

In float64: an untrained network takes the last bit of a float32 sum for a difference of per cent within six steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from rectified_lpjepa.main import main

CONFIG = """
seed_everything: 3
trainer: {max_epochs: 2, accelerator: cpu, log_every_n_steps: 1, limit_train_batches: 3, precision: 64-true}
model:
  objective: {class_path: RDMReg, init_args: {target: {p: 1.0, mu: -0.5}, directions: {num: 33}}}
  backbone: {name: resnet18, kwargs: {layers: [1, 1, 1, 1], channels: [8, 8, 16, 16]}}
  projector: {hidden_dim: 16, out_dim: 12}
  optimizer: {name: lars, lr: 0.1, probe_lr: 0.1, warmup_epochs: 1}
data: {class_path: DigitsDataModule, init_args: {batch_size: 32}}
"""
STEPS = 6
# Five starts of Python and what it imports, on a machine that may be busy.
pytestmark = pytest.mark.timeout(500)


class Runs(NamedTuple):
    """What was run."""

    alone: Path
    """Directory of the run of one process."""
    roots: Path
    """Folder of the run directories of two processes."""
    first: str
    """What two processes printed."""
    second: str
    """What they printed when they were started again."""

    @property
    def together(self) -> Path:
        [directory] = self.roots.iterdir()
        return directory


def torchrun(*arguments: str) -> str:
    """Start two processes with a thread each, and return what they printed together."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "-m", "rectified_lpjepa", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("torchrun")
    (folder / "config.yaml").write_text(CONFIG)
    fit = ["fit", "--config", str(folder / "config.yaml"), "--run.root"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["rectified-lpjepa"])
        main([*fit, str(folder / "alone")])
    [alone] = (folder / "alone").iterdir()
    both = [*fit, str(folder / "together")]  # the number of devices is torchrun's
    return Runs(alone, folder / "together", torchrun(*both), torchrun(*both))


def read(directory: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return result


def test_there_is_one_run_directory_of_the_same_identity_and_what_is_said_is_said_once(runs: Runs) -> None:
    assert [directory.name for directory in runs.roots.iterdir()] == [runs.alone.name]
    contents = [sorted(file.name for file in directory.iterdir()) for directory in (runs.alone, runs.together)]
    assert contents[0] == contents[1]
    assert [sum(line.startswith("processes ") for line in runs.first.splitlines())] == [1]
    assert "2 process(es)" in read(runs.together)["hardware"]
    for said in ("Epoch 1/2", "Epoch 2/2", "encoder probe, top-1", f"2 epochs, {STEPS} steps"):
        assert runs.first.count(said) == 1, said


def test_started_again_it_is_finished(runs: Runs) -> None:
    assert runs.second.count("is finished. HINT") == runs.second.count("encoder probe, top-1") == 1
    assert "Epoch" not in runs.second
    checkpoints = (runs.together / "checkpoints").iterdir()
    assert max(file.stat().st_mtime for file in checkpoints) <= (runs.together / "result.json").stat().st_mtime


def weights(directory: Path) -> dict[str, Any]:
    checkpoint = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    return {name: value.double() for name, value in checkpoint["state_dict"].items() if value.is_floating_point()}


def test_weights_equal_one_process(runs: Runs) -> None:
    alone, together = weights(runs.alone), weights(runs.together)
    assert alone.keys() == together.keys()
    for name, expected in alone.items():
        assert (together[name] - expected).norm() <= 1e-8 * expected.norm(), name


def test_results_equal_one_process(runs: Runs) -> None:
    alone, together = read(runs.alone)["metrics"], read(runs.together)["metrics"]
    assert together == pytest.approx(alone, rel=1e-6)
