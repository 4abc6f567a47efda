"""What the command line refuses, and how it says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from run_files import checkpoint

from rectified_lpjepa.main import main


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


def test_evaluating_before_training_names_the_missing_checkpoint(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command("validate", directory=tmp_path / "run")
    assert "last.ckpt" in capsys.readouterr().err


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
