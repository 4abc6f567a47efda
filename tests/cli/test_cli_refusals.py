"""What the command line refuses, and how it says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from run_files import checkpoint


@pytest.fixture
def refused(refusal: Callable[..., str], config: Path) -> Callable[..., str]:
    """Run a command on the tiny run, which must be refused, and return what is said of that."""

    def run(subcommand: str, *arguments: str, directory: Path, code: int = 1) -> str:
        return refusal(subcommand, "--config", str(config), "--run.dir", str(directory), *arguments, code=code)

    return run


def test_another_value_in_the_same_directory_is_refused_and_a_fork_takes_it(
    command: Callable[..., None], refused: Callable[..., str], tmp_path: Path
) -> None:
    directory, fork = tmp_path / "run", tmp_path / "fork"
    command("fit", "--trainer.max_epochs=2", directory=directory)
    for fresh in ("true", "false"):
        message = refused("fit", "--trainer.max_epochs=3", f"--run.fresh={fresh}", directory=directory)
        assert "trainer.max_epochs: 2 → 3" in message
    last = directory / "checkpoints" / "last.ckpt"
    assert last.exists()
    too_short = ("--model.optimizer.lr=0.02", f"--run.fork_from={last}")
    assert "raise `--trainer.max_epochs`" in refused("fit", *too_short, directory=tmp_path / "too short")

    options = ("--trainer.max_epochs=3", "--model.optimizer.lr=0.02", "--model.optimizer.weight_decay=0.3")
    command("fit", *options, f"--run.fork_from={last}", directory=fork)
    forked = checkpoint(fork)
    assert forked["global_step"] == 9
    weights = next(group for group in forked["optimizer_states"][0]["param_groups"] if group["name"] == "weights")
    assert weights["initial_lr"] == pytest.approx(0.02 * 32 / 256)
    assert weights["weight_decay"] == 0.3


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model.objective.target.q=3", "target"),
        ("--model.optimzer.lr=3", "did you mean optimizer"),
        ("--trainer.max_epoch=3", "did you mean max_epochs"),
        ("--data.batch_sise=3", "did you mean batch_size"),
        ("--modle.rectifier=relu", "did you mean model"),
        ("--model.rectifier=rleu", "rep_relu"),
    ],
)
def test_unknown_keys_and_abbreviations_are_errors_with_the_nearest_name(
    refused: Callable[..., str], tmp_path: Path, argument: str, message: str
) -> None:
    assert message in refused("fit", argument, directory=tmp_path / "run", code=2)
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
    refused: Callable[..., str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert re.search(message, refused("fit", *arguments, directory=tmp_path / "run"))


def test_evaluating_before_training_names_the_missing_checkpoint(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "last.ckpt" in refused("validate", directory=tmp_path / "run")


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
    refused: Callable[..., str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    error = refused(*arguments, directory=tmp_path / "run")
    assert re.search(message, error)
    assert "Namespace" not in error


def test_a_missing_checkpoint_without_configuration_is_named(refusal: Callable[..., str]) -> None:
    assert "There is no checkpoint no.ckpt" in refusal("validate", "--ckpt_path", "no.ckpt")
