"""Every experiment under ``experiments/``: it is read and expanded, and ``fit`` and evaluations accept its options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from training_parser import parse_fit

from rectified_lpjepa.experiment.file import PROFILES, listed, read_experiment
from rectified_lpjepa.experiment.run import check_evaluations
from rectified_lpjepa.experiment.study import Study
from rectified_lpjepa.identity import leaves
from rectified_lpjepa.networks import Backbone
from rectified_lpjepa.sweep.manifest import Entry, Folder, make_plan, write_plan

ROOT = Path(__file__).parents[2]
FILES = listed(ROOT / "experiments")
NAMES = {
    "01_baseline",
    "02_sparsity",
    "03_rectification",
    "04_directions",
    "05_sigma",
    "06_rectifiers",
    "07_methods",
    "08_transfer",
    "09_architectures",
    "10_independence",
    "11_ood",
    "12_nonnegative_vcreg",
    "13_shift",
    "14_sparsity_control",
    "15_why_denser",
}


def test_they_are_all_there() -> None:
    assert {file.stem for file in FILES} == NAMES


def test_seeds_of_a_point_are_no_setting_that_varies() -> None:
    experiment = read_experiment(next(file for file in FILES if file.stem == "14_sparsity_control"))
    assert set(experiment.varied("cpu")) == {"p", "active_fraction", "weight", "kind"}


def covering(entries: list[Entry]) -> Iterator[Entry]:
    """Give points until every option has been there, with every text and every kind of number that it takes."""
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        options = [*entry.options.items(), ("config", entry.config)]
        told = {(option, value if isinstance(value, str) else type(value).__name__) for option, value in options}
        if not told <= seen:
            seen |= told
            yield entry


def is_taken(option: str, entry: Entry, parsed: Any) -> bool:
    """Say whether an option was parsed as given.

    A class has all its arguments then, not only those that were given, and some by options of their own.
    """
    value = entry.options[option]
    if isinstance(value, Mapping) and "class_path" in value:
        parts = ((f"{option}.{name}", part) for name, part in leaves(value))
        return all(parsed[name] == entry.options.get(name, part) for name, part in parts)
    return bool(parsed[option] == value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_has_all_profiles_and_its_options_are_accepted(file: Path, tmp_path: Path) -> None:
    experiment = read_experiment(file)
    assert set(experiment.profiles) == set(PROFILES)
    assert "?" in experiment.question
    for profile in PROFILES:
        study = Study(file, experiment, profile, str(tmp_path))
        check_evaluations(study)
        plan = make_plan(study.sweep, file.parent, Folder(study.folder))
        write_plan(Folder(study.folder), plan)
        for entry in covering(plan.entries):
            config = parse_fit(entry.argv)
            for option in entry.options:
                assert is_taken(option, entry, config), option


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_shown_is_told_apart_and_named(file: Path) -> None:
    experiment = read_experiment(file)
    for row in experiment.published:
        assert "2602.01456" in row.source or row.mark == "‡"
        assert row.values or row.label
    labels = [experiment.label(part.where) for part in experiment.labels]
    assert labels == [part.label for part in experiment.labels]


@pytest.mark.parametrize(("profile", "side", "channels"), [("smoke", 16, 1), ("cpu", 32, 3)])
def test_small_architectures_take_small_images(profile: str, side: int, channels: int) -> None:
    experiment = read_experiment(next(file for file in FILES if file.stem == "09_architectures"))
    for options in experiment.profiles[profile].points:
        settings = {option.rpartition(".")[2]: value for option, value in options.items()}
        encoder = Backbone(**settings).build(side, channels)
        assert encoder(torch.zeros(2, channels, side, side)).shape == (2, encoder.num_features)
