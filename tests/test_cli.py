"""The command line, end to end on a tiny run: what it writes, how it goes on, and how it refuses."""

from __future__ import annotations

import csv
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from identical import assert_identical
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rectified_lpjepa.callbacks import RunCheckpoint
from rectified_lpjepa.cli import CLI
from rectified_lpjepa.distributed import AllGatherDDPStrategy
from rectified_lpjepa.main import main
from rectified_lpjepa.objectives import RDMReg
from rectified_lpjepa.source import commit

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


class StopError(Exception):
    """A run that ends in the middle."""


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


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def checkpoint(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    return loaded


def test_a_run_leaves_everything_in_its_directory_and_validates_to_the_same_numbers(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    command("fit", directory=directory)
    printed = capsys.readouterr().out
    assert "encoder probe, top-1" in printed
    assert f"figures: {directory / 'figures'}" in printed
    assert "(16 directions)" in printed.partition("Epoch 1/2")[0]
    assert "warning: the features have collapsed" in printed.partition("encoder probe, top-1")[2]

    for name in ("config.yaml", "identity.json", "summary.json", "result.json", "checkpoints/last.ckpt"):
        assert (directory / name).is_file(), name
    figures = {path.stem for path in (directory / "figures").glob("*.png")}
    assert figures == {"feature_histogram", "projected_marginals", "loss_terms", "sparsity", "probe_accuracy"}
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["peak learning rates"]["weights"] == pytest.approx(0.01 * 32 / 256)
    assert summary["active fraction of the target"] == pytest.approx(0.2465, abs=1e-3)

    result = json.loads((directory / "result.json").read_text())
    assert (result["epochs"], result["steps"]) == (2, 6)
    assert result["commit"] == commit()
    logged = {key: value for key, value in result["metrics"].items() if key.startswith("val/")}
    last = [row for row in rows(directory) if row["val/sparsity/l0"]][-1]
    assert {key: float(last[key]) for key in logged} == pytest.approx(logged)
    board = EventAccumulator(str(directory / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert {event.step for event in board.Scalars("step/loss")} == set(range(6))
    assert "figures/feature_histogram" in board.Tags()["images"]

    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    moved = directory.rename(tmp_path / "moved")
    main(["validate", "--ckpt_path", str(moved / "checkpoints" / "last.ckpt")])
    printed = capsys.readouterr().out
    assert "equal to training's log" in printed
    assert "warning: the features have collapsed" in printed
    assert f"figures: {moved / 'figures'}" in printed
    assert not directory.exists()
    moved.rename(directory)

    command("test", directory=directory)
    assert "encoder probe, top-1" in capsys.readouterr().out

    command("predict", directory=directory)
    with np.load(directory / "features_test.npz", allow_pickle=False) as features:
        assert features["encoder"].shape == (360, 16)
        assert features["projector"].shape == (360, 12)
        assert features["labels"].shape == (360,)
        assert (features["indices"] == np.arange(360)).all()
        assert np.mean(features["projector"] != 0) == pytest.approx(logged["val/sparsity/l0"], abs=1e-6)

    before = checkpoint(directory)
    command("fit", directory=directory)
    assert "is finished" in capsys.readouterr().out
    assert_identical(checkpoint(directory), before)


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


def test_another_value_in_the_same_directory_is_refused_and_a_fork_takes_it(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, fork = tmp_path / "run", tmp_path / "fork"
    command("fit", "--trainer.max_epochs=2", directory=directory)
    for fresh in ("true", "false"):
        with pytest.raises(SystemExit) as stop:
            command("fit", "--trainer.max_epochs=3", f"--run.fresh={fresh}", directory=directory)
        assert stop.value.code == 1
        assert "trainer.max_epochs: 2 → 3" in capsys.readouterr().err
    last = directory / "checkpoints" / "last.ckpt"
    assert last.exists()
    with pytest.raises(SystemExit):
        command("fit", "--model.optimizer.lr=0.02", f"--run.fork_from={last}", directory=tmp_path / "too short")
    assert "raise `--trainer.max_epochs`" in capsys.readouterr().err

    options = ("--trainer.max_epochs=3", "--model.optimizer.lr=0.02", "--model.optimizer.weight_decay=0.3")
    command("fit", *options, f"--run.fork_from={last}", directory=fork)
    forked = checkpoint(fork)
    assert forked["global_step"] == 9
    weights = next(group for group in forked["optimizer_states"][0]["param_groups"] if group["name"] == "weights")
    assert weights["initial_lr"] == pytest.approx(0.02 * 32 / 256)
    assert weights["weight_decay"] == 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.objective.target.q=3"], "target"),
        (["--model.optimzer.lr=3"], "did you mean optimizer"),
        (["--trainer.max_epoch=3"], "did you mean max_epochs"),
        (["--data.batch_sise=3"], "did you mean batch_size"),
        (["--modle.rectifier=relu"], "did you mean model"),
        (["--model.rectifier=rleu"], "rep_relu"),
    ],
)
def test_unknown_keys_and_abbreviations_are_errors_with_the_nearest_name(
    command: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stop:
        command("fit", *arguments, directory=tmp_path / "run")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.objective.target.p=0"], "p must be"),
        (["--model.objective.target.sigma=-1"], "sigma must be"),
        (["--model.objective.target={active_fraction: 1.5}"], "active fraction"),
        (["--model.objective.directions.num=0"], "number of directions"),
        (["--model.objective.directions={kind: eigen, num: 4}"], "4 directions of kind 'eigen'"),
        (["--data.batch_size=0"], "batch_size"),
        (["--model.backbone={name: resnet81}"], "Near names: .*resnet"),
        (["--model.backbone={name: vit_tiny_patch16_224}", "--data.image_size=24"], "24"),
        (["--trainer.max_epochs=1"], "warm-up"),
    ],
)
def test_values_out_of_range_are_refused_with_a_message(
    command: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stop:
        command("fit", *arguments, directory=tmp_path / "run")
    assert stop.value.code in (1, 2)
    assert re.search(message, capsys.readouterr().err)


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


def test_evaluating_before_training_names_the_missing_checkpoint(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("validate", directory=tmp_path / "run")
    assert "last.ckpt" in capsys.readouterr().err


def test_unlabelled_data_train_without_probes(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images, x_test=images[:40])
    data = f"{{class_path: NpzDataModule, init_args: {{path: {tmp_path / 'set.npz'}, batch_size: 32}}}}"
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    main(["fit", "--config", str(config), f"--data={data}", "--run.dir", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "share of non-zeros" in printed
    assert "probe, top" not in printed
    assert not any("probe" in key for key in checkpoint(tmp_path / "run")["state_dict"])


def test_the_last_epoch_is_validated_whatever_the_interval(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    options = ("--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2")
    command("fit", *options, directory=directory)
    assert [row["epoch"] for row in rows(directory) if row["val/sparsity/l0"]] == ["1", "2"]
    command("validate", *options, directory=directory)
    assert "equal to training's log" in capsys.readouterr().out


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


def test_a_trial_leaves_a_run_as_it_is(command: Callable[..., None], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    command("fit", "--trainer.fast_dev_run=true", "--model.optimizer.warmup_epochs=0", directory=directory)
    assert not (directory / "result.json").exists()
    command("fit", "--trainer.max_time=00:00:00:00", directory=directory)
    assert not (directory / "result.json").exists()


def test_a_saved_configuration_starts_the_same_run_and_discards_nothing(
    command: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    command("fit", "--run.fresh=true", directory=directory)
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    main(["fit", "--config", str(directory / "config.yaml")])
    assert "is finished" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "--trainer.default_root_dir=elsewhere"], r"--run\.root"),
        (["fit", "--trainer.overfit_batches=2"], "train_samples"),
        (["fit", "--data={class_path: NpzDataModule, init_args: {path: no.npz}}"], r"^error: .*no\.npz"),
        (["validate", "--ckpt_path=no.ckpt"], r"There is no checkpoint no\.ckpt"),
    ],
)
def test_impossible_requests_are_refused_with_a_hint(
    command: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stop:
        command(*arguments, directory=tmp_path / "run")
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Namespace" not in error


def test_a_missing_checkpoint_without_configuration_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    with pytest.raises(SystemExit):
        main(["validate", "--ckpt_path", "no.ckpt"])
    assert "There is no checkpoint no.ckpt" in capsys.readouterr().err


def test_several_devices_gather_features_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, config: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(CLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    arguments = ["fit", "--config", str(config), "--run.root", str(tmp_path), "--trainer.devices=2"]
    for more, is_ours in (((), True), (("--trainer.strategy=ddp",), False)):
        cli = CLI([*arguments, *more])
        assert isinstance(cli.trainer.strategy, AllGatherDDPStrategy) == is_ours
        cli.directory.close()
