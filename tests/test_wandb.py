"""Weights & Biases beside a run's own logs: which run it is told to go on with, and what becomes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers import wandb as lightnings

from rectified_lpjepa import loggers
from rectified_lpjepa.commands import installed_version
from rectified_lpjepa.identity import identity_hash
from rectified_lpjepa.loggers import check_logger, of_this_run

ROOT = Path(__file__).parents[1]
IDENTITY = {"seed_everything": 3, "model": {"lr": 0.1}}
SETTING = {
    "class_path": "lightning.pytorch.loggers.WandbLogger",
    "init_args": {"project": "sparse", "save_dir": ".", "id": None, "name": None, "offline": False},
    "dict_kwargs": {"group": "first"},
}


class FakeRun:
    """Notes what is logged."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []

    def log(self, metrics: dict[str, Any]) -> None:
        self.logged.append(metrics)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Put a library in the place of wandb that notes with what its runs are started."""
    calls: list[dict[str, Any]] = []

    def init(**arguments: Any) -> FakeRun:
        calls.append(arguments)
        return FakeRun()

    parts = {"wandb": {"init": init, "run": None}, "wandb.sdk": {}, "wandb.sdk.lib": {"RunDisabled": SimpleNamespace}}
    for name, content in (parts | {"wandb.wandb_run": {"Run": SimpleNamespace}}).items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(lightnings, "_WANDB_AVAILABLE", True)
    return calls


def test_a_run_that_goes_on_continues_its_curves(started: list[dict[str, Any]], tmp_path: Path) -> None:
    directory = tmp_path / "digits-0123abcd"
    for loss in (2.0, 1.0):
        logger = of_this_run(WandbLogger(project="sparse"), SETTING, directory, IDENTITY)
        logger.log_metrics({"loss": loss}, 7)
        assert isinstance(logger, WandbLogger)
        assert logger.experiment.logged == [{"loss": loss, "trainer/global_step": 7}]  # type: ignore[union-attr]
    assert started[0] == started[1]
    told = {name: started[0][name] for name in ("id", "resume", "name", "project", "dir", "group", "config")}
    assert told == {
        "id": identity_hash(IDENTITY),
        "resume": "allow",
        "name": "digits-0123abcd",
        "project": "sparse",
        "dir": str(directory),
        "group": "first",
        "config": IDENTITY,
    }


def test_what_is_set_is_kept(started: list[dict[str, Any]], tmp_path: Path) -> None:
    setting = {"init_args": {"id": "mine", "save_dir": "elsewhere", "name": "best"}}
    of_this_run(WandbLogger(), setting, tmp_path, IDENTITY).log_metrics({})
    assert (started[0]["id"], started[0]["dir"], started[0]["name"]) == ("mine", "elsewhere", "best")


def test_other_loggers_are_left_alone(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    assert of_this_run(logger, {}, tmp_path, IDENTITY) is logger


def test_a_missing_library_is_named_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    check_logger(True)
    monkeypatch.setattr(loggers, "installed_version", lambda name: None)
    digits = ["--config", str(ROOT / "configs" / "digits.yaml"), "--run.dir", str(tmp_path / "run")]
    message = refusal("fit", *digits, "--trainer.logger=WandbLogger", "--trainer.logger.project=sparse")
    assert "pip install 'rectified-lpjepa[wandb]'" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.timeout(600)  # two trainings, each in a process that starts the library's own
@pytest.mark.skipif(installed_version("wandb") is None, reason="wandb is not installed")
def test_a_stopped_and_resumed_run_is_one_run_of_the_real_library(tmp_path: Path) -> None:
    options = ["--trainer.logger=WandbLogger", "--trainer.logger.project=sparse", "--trainer.logger.offline=true"]
    options += ["--config", str(ROOT / "configs" / "digits.yaml"), "--trainer.accelerator=cpu"]
    options += ["--trainer.max_epochs=2", "--trainer.limit_train_batches=1", "--model.optimizer.warmup_epochs=0"]
    command = [sys.executable, "-m", "rectified_lpjepa", "fit", *options, "--run.dir", str(tmp_path / "run")]
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "RECTIFIED_LPJEPA_TRACEBACK": "1"}
    for more, code in ((["--trainer.max_time=00:00:00:00"], 3), ([], 0)):
        assert subprocess.run([*command, *more], check=False, env=environment, cwd=tmp_path).returncode == code
    identity = identity_hash(json.loads((tmp_path / "run" / "identity.json").read_text()))
    started = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert [path.name.rpartition("-")[2] for path in started] == [identity] * 2
    assert (tmp_path / "run" / "csv" / "metrics.csv").is_file()
    assert not (tmp_path / "wandb").exists()
