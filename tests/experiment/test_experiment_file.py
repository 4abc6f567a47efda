"""Experiment files are read strictly, and become sweeps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from studies import CONTENT, profile, write_experiment
from sweeps import MU

from rectified_lpjepa.experiment.file import find, listed, read_experiment


def test_a_profile_becomes_a_sweep_with_the_given_options_first(tmp_path: Path) -> None:
    experiment = read_experiment(write_experiment(tmp_path, profiles=profile(options={"trainer.max_epochs": 2})))
    given = {"data": "a.B", "data.init_args.path": "x.npz"}
    sweep = experiment.sweep("07_tiny", "smoke", root="here", given=given)
    assert (sweep.name, sweep.root) == ("smoke", "here/experiments/07_tiny")
    assert sweep.resources.sbatch == ["--job-name=07_tiny-smoke"]
    points = sweep.expand(tmp_path)
    assert [(point.options[MU], point.seed) for point in points] == [(0, 0), (0, 1), (-1, 0), (-1, 1)]
    assert list(points[0].options) == ["data", "data.init_args.path", "trainer.max_epochs", MU]


@pytest.mark.parametrize("option", [MU, "trainer.max_epochs"])
def test_a_given_option_that_the_profile_sets_is_refused(tmp_path: Path, option: str) -> None:
    experiment = read_experiment(write_experiment(tmp_path, profiles=profile(options={"trainer.max_epochs": 2})))
    with pytest.raises(ValueError, match=rf"{option} is set by the profile smoke.*\n?.*HINT"):
        experiment.sweep("07_tiny", "smoke", given={option: 1})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"titel": "x"}, "no key titel.*\n.*did you mean title"),
        ({"columns": [{"metrik": "x", "label": "y"}]}, r"no key columns\[0\].metrik"),
        ({"columns": [{"metric": "x", "label": "y", "unit": "m"}]}, "must be % or nothing, got 'm'"),
        ({"figures": [{"kind": "bar"}]}, "no figure of the kind 'bar'.*\n.*did you mean bars"),
        ({"figures": [{"kind": "bars", "wehre": {}}]}, r"no key figures\[0\].wehre"),
        ({"figures": [{"kind": "bars", "where": {"muu": 1}}]}, "no profile varies 'muu'.*\n.*did you mean mu"),
        ({"figures": [{"kind": "bars", "series": "nu"}]}, "no profile varies 'nu'"),
        ({"figures": [{"kind": "bars", "series": {"x": {"nu": 1}}}]}, "no profile varies 'nu'"),
        ({"figures": [{"kind": "bars", "within": 0.02}]}, "within goes with l0_over_target alone"),
        ({"figures": [{"kind": "l0_over_target", "relative": 0.15}]}, "relative needs within"),
        ({"labels": [{"label": "x", "where": {"nu": 1}}]}, "no profile varies 'nu'"),
        ({"conditions": [{"text": "x", "metric": "y", "at_leest": 1}]}, r"no key conditions\[0\].at_leest"),
        ({"conditions": [{"text": "x", "metric": "y", "at_least": "1"}]}, r"conditions\[0\].at_least must be"),
        ({"published": [{"label": "x", "metrics": {}, "source": "y", "mark": "*"}]}, "must be † or ‡"),
        ({"profiles": {"huge": {"config": "base.yaml"}}}, "no profile 'huge'; known are smoke, cpu, paper"),
        ({"profiles": profile(gird={})}, "no key profiles.smoke.gird.*\n.*did you mean grid"),
        ({"profiles": profile(grid={MU: []})}, f"grid.{MU} has no values"),
        ({"profiles": profile(evaluations=["knn"])}, "profiles.smoke.evaluations must be dict"),
        ({"profiles": profile(post_hoc=[{"rectifier": "relu"}])}, r"profiles.smoke.post_hoc\[0\].where is missing"),
        ({"profiles": []}, "profiles must be dict"),
    ],
)
def test_what_is_wrong_is_an_error_that_names_file_and_key(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    file = write_experiment(tmp_path, **changed)
    with pytest.raises(ValueError, match=message) as caught:
        read_experiment(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_a_missing_profile_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="07_tiny has no profile 'paper'; it has smoke"):
        read_experiment(write_experiment(tmp_path)).sweep("07_tiny", "paper")


def test_the_last_label_that_fits_counts(tmp_path: Path) -> None:
    labels = [{"label": "all", "where": {}}, {"label": "zero", "where": {"mu": 0}}]
    experiment = read_experiment(write_experiment(tmp_path, labels=labels))
    assert [experiment.label({"mu": mu}) for mu in (0.0, -1)] == ["zero", "all"]
    assert read_experiment(write_experiment(tmp_path)).label({"mu": 0}) is None


def test_an_experiment_is_found_by_number_name_and_path(tmp_path: Path) -> None:
    file = write_experiment(tmp_path)
    for name in ("7", "07", "07_tiny", str(file)):
        assert find(name, tmp_path) == file
    assert listed(tmp_path) == [file]
    with pytest.raises(ValueError, match=re.escape("There are 07_tiny.\n  HINT: did you mean 07_tiny?")):
        find("07_tini", tmp_path)
    with pytest.raises(ValueError, match=r"There are none\.$"):
        find("8", tmp_path / "empty")


def test_a_number_of_two_experiments_is_refused_and_a_name_is_not(tmp_path: Path) -> None:
    for name in ("07_one", "07_two"):
        (tmp_path / f"{name}.yaml").touch()
    with pytest.raises(ValueError, match="number 7 is that of 07_one and 07_two"):
        find("7", tmp_path)
    assert find("07_two", tmp_path).stem == "07_two"


def test_the_short_names_of_what_varies(tmp_path: Path) -> None:
    content = profile(post_hoc=[{"where": {"mu": 0}}])
    assert read_experiment(write_experiment(tmp_path, profiles=content)).varied("smoke") == {
        "mu": MU,
        "post_hoc": "post_hoc",
    }
    assert list(CONTENT["profiles"]) == ["smoke"]
