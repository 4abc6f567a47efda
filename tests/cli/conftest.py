"""The command line on a tiny run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rectified_lpjepa.main import main

TINY = """
seed_everything: 3
trainer:
  max_epochs: 2
  accelerator: cpu
  log_every_n_steps: 1
  limit_train_batches: 3
model:
  objective:
    class_path: rectified_lpjepa.objectives.RDMReg
    init_args:
      target: {p: 1.0, mu: -0.5}
      directions: {num: 16}
  backbone:
    name: resnet18
    kwargs: {layers: [1, 1, 1, 1], channels: [8, 8, 16, 16], drop_rate: 0.1}
  projector: {hidden_dim: 16, out_dim: 12}
  optimizer: {name: adamw, lr: 0.01, probe_lr: 0.1, warmup_epochs: 1}
data:
  class_path: rectified_lpjepa.data.DigitsDataModule
  init_args: {batch_size: 32}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, config: Path) -> Callable[..., None]:
    def run(subcommand: str, *arguments: str, directory: Path) -> None:
        monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
        main([subcommand, "--config", str(config), "--run.dir", str(directory), *arguments])

    return run
