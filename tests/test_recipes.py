"""Recipes by name: a path that exists wins, an unknown name is refused with the nearest, a run stays what it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rectified_lpjepa.cli import CLI
from rectified_lpjepa.main import main
from rectified_lpjepa.recipes import find_config, find_sweep, recipe_names
from rectified_lpjepa.sweep.file import read_sweep

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work in an empty folder, as one who has installed the package does."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipe_is_found_by_its_path_below_the_folder() -> None:
    files = [Path(folder) / file for folder, _, names in os.walk(CONFIGS) for file in names]
    assert sorted(map(str, files)) == sorted(f"{CONFIGS / name}.yaml" for name in recipe_names())
    assert find_config("digits") == CONFIGS / "digits.yaml"
    assert find_config("baselines/lejepa") == CONFIGS / "baselines" / "lejepa.yaml"
    assert find_sweep("sweeps/digits_mu") == CONFIGS / "sweeps" / "digits_mu.yaml"


def test_a_path_that_exists_wins_over_a_name(elsewhere: Path) -> None:
    (elsewhere / "digits").mkdir()  # a folder is no configuration
    assert find_config("digits") == CONFIGS / "digits.yaml"
    (elsewhere / "vicreg").write_text("")
    assert find_config("vicreg") == Path("vicreg")
    (elsewhere / "digits").rmdir()
    (elsewhere / "digits").write_text("")
    assert find_config("digits") == Path("digits")
    assert find_config("digits", elsewhere) == elsewhere / "digits"
    assert find_config(str(CONFIGS / "digits.yaml"), elsewhere) == CONFIGS / "digits.yaml"


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("digts", "digits"),
        ("lejepa", "baselines/lejepa"),
        ("baseline/lejepa", "baselines/lejepa"),
        ("configs/digits.yaml", "digits"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(given: str, nearest: str) -> None:
    with pytest.raises(FileNotFoundError) as refused:
        find_config(given)
    told = str(refused.value)
    assert told.startswith(f"There is no file {given}, and no recipe of this name.")
    assert f"did you mean {nearest}" in told
    assert {name for name in recipe_names() if f" {name}" in told} == {n for n in recipe_names() if "sweeps/" not in n}


def test_what_is_like_nothing_gets_no_hint() -> None:
    with pytest.raises(FileNotFoundError) as refused:
        find_sweep("qqq")
    assert str(refused.value).endswith(
        "The recipes are sweeps/cifar100_baselines, sweeps/digits_mu, sweeps/digits_sparsity."
    )


def test_a_run_is_the_same_by_name_and_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    monkeypatch.setattr(CLI, "_run_subcommand", lambda cli, subcommand: None)
    runs = []
    for config in ("digits", str(CONFIGS / "digits.yaml")):
        directory = CLI(["fit", "--config", config, "--trainer.accelerator", "cpu"]).directory
        directory.close()
        runs.append((directory.path, directory.identity))
    assert runs[0] == runs[1]


def test_a_later_configuration_may_be_given_as_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    monkeypatch.setattr(CLI, "_run_subcommand", lambda cli, subcommand: None)
    given = ["--config", "{trainer: {max_epochs: 2}}", "--trainer.accelerator", "cpu"]
    assert CLI(["fit", "-c", "digits", *given]).trainer.max_epochs == 2


def test_the_command_line_refuses_an_unknown_recipe(refusal: Callable[..., str]) -> None:
    assert "did you mean digits?" in refusal("fit", "--config=digts", code=2)


def test_a_sweep_is_run_by_name(
    refusal: Callable[..., str], capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    main(["sweep", "run", "sweeps/digits_mu", "--dry-run"])
    assert capsys.readouterr().out.count("fit --config") == 8
    assert not list(elsewhere.iterdir())
    assert "did you mean sweeps/digits_mu?" in refusal("sweep", "status", "digits_mu")


def test_a_sweep_of_ones_own_varies_a_recipe(elsewhere: Path) -> None:
    content = {"name": "mine", "config": "digits", "points": [{}, {"config": "cifar100_small"}]}
    (elsewhere / "mine.yaml").write_text(yaml.safe_dump(content))
    points = read_sweep(elsewhere / "mine.yaml").expand(elsewhere)
    assert [point.config for point in points] == [CONFIGS / "digits.yaml", CONFIGS / "cifar100_small.yaml"]
