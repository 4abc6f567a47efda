"""Remarks: each failure signature is noticed where it is, and only there."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from rectified_lpjepa.objectives import RDMReg
from rectified_lpjepa.objectives.directions import Directions
from rectified_lpjepa.objectives.target import Target
from rectified_lpjepa.remarks import Remark, remarks, start_remarks, told

GOOD = {
    "val/sparsity/l0": 0.51,
    "val/sparsity/l0_target": 0.5,
    "val/features/variance": 0.31,
    "val/features/variance_target": 0.34,
    "val/features/dead_units": 0.0,
    "val/features/dead_units_target": 0.0,
    "distribution/preactivations/generalized_gaussian/ks_median": 0.02,
}


def texts(found: list[Remark]) -> str:
    return " | ".join(f"{remark.text} ({remark.measured})" for remark in found)


@pytest.mark.parametrize(
    ("target", "noticed"),
    [
        (Target(), ""),
        (Target(mu=1.0), ""),
        (Target(mu=2.0), "the target is dense: hardly any feature will be zero (active fraction of the target 0.977)"),
        (Target(active_fraction=0.9), ""),
        (Target(mu=-2.0), "past about 95 % zeros) (active fraction of the target 0.023)"),
        # The published values of μ at which the cliff is reached.
        (Target(mu=-1.62), ""),
        (Target(mu=-1.67), "(active fraction of the target 0.047)"),
        (Target(p=1.0, mu=-1.6), ""),
        (Target(p=1.0, mu=-1.66), "(active fraction of the target 0.048)"),
        (Target(rectified=False), ""),
    ],
)
def test_the_target_is_judged_before_training(target: Target, noticed: str) -> None:
    found = texts(start_remarks(RDMReg(target).description()))
    assert (noticed in found) if noticed else found == ""


def test_few_directions_are_noticed() -> None:
    assert start_remarks(RDMReg(directions=Directions(num=100)).description()) == []
    assert "(64 directions)" in texts(start_remarks(RDMReg(directions=Directions(num=64)).description()))
    assert start_remarks({}) == []


def test_a_good_run_needs_no_remark() -> None:
    assert remarks(GOOD, [3.0, 2.0, 2.1]) == []
    assert remarks({}) == []


@pytest.mark.parametrize(
    ("changed", "noticed"),
    [
        ({"val/features/variance": 0.03}, "collapsed: they hardly differ between samples (variance 0.03, the target's"),
        ({"val/sparsity/l0": 0.95}, "the features are dense (ℓ0 0.950, the target's 0.500)"),
        ({"val/sparsity/l0": 0.58}, "ℓ0 is far from the target's (ℓ0 0.580, the target's 0.500)"),
        ({"val/sparsity/l0": 0.01, "val/sparsity/l0_target": 0.03}, "beyond the cliff"),
        ({"val/features/dead_units": 0.07}, "units are dead: zero for every sample of the validation set (7.0% of"),
        (
            {"distribution/preactivations/generalized_gaussian/ks_median": 0.2},
            "far from generalised Gaussian, so that ℓ0 does not follow from μ and p (median Kolmogorov-Smirnov",
        ),
    ],
)
def test_what_is_wrong_is_noticed_with_its_value(changed: dict[str, float], noticed: str) -> None:
    assert noticed in texts(remarks(GOOD | changed))


@pytest.mark.parametrize(
    ("measured", "noticed"),
    [
        ({"val/features/variance": 0.0}, "warning: the features have collapsed: they hardly differ between samples (v"),
        ({"val/features/variance": 0.01}, ""),
        ({"val/sparsity/l0": 0.0085}, "note: the features are beyond the cliff"),
        ({"val/sparsity/l0": 0.95}, "note: the features are dense (ℓ0 0.9500)"),
        ({"val/sparsity/l0": 0.72}, ""),
        ({"val/sparsity/l0": 1.0}, ""),  # there is no rectifier
        ({"val/features/dead_units": 0.1}, "warning: units are dead"),
    ],
)
def test_without_a_target_there_are_fixed_bounds(measured: dict[str, float], noticed: str) -> None:
    found = told(remarks(measured))
    assert found.startswith(noticed) if noticed else found == ""


def test_the_advice_for_another_sparsity_is_what_brings_control() -> None:
    (remark,) = remarks(GOOD | {"val/sparsity/l0": 0.58})
    assert "`axes.weight`" in remark.advice
    assert "`directions.kind` eigen_bottom_half" in remark.advice
    assert "longer training" not in remark.advice


@pytest.mark.parametrize(
    "changed",
    [
        {"val/sparsity/l0": 0.574},  # 15 % of the target
        {"val/sparsity/l0": 0.079, "val/sparsity/l0_target": 0.06},  # two hundredths
        {"val/sparsity/l0": 1.0, "val/sparsity/l0_target": 1.0},  # a dense target is meant to be dense
        {"val/features/dead_units": 0.5, "val/features/dead_units_target": 0.5},  # as sparse a target has dead units
        {"val/features/variance": 0.001, "val/features/variance_target": 0.001},
    ],
)
def test_what_the_target_asks_for_is_not_noticed(changed: dict[str, float]) -> None:
    assert remarks(GOOD | changed) == []


@pytest.mark.parametrize(
    ("losses", "noticed"),
    [
        ([3.0, 2.0, 3.1], "rises: the learning rate is too high (3.1 in the last epoch, 2 in epoch 2)"),
        ([3.0, math.nan], "not finite (nan in epoch 2)"),
        ([3.0, 2.0, 2.9], ""),
        ([3.0], ""),
    ],
)
def test_a_diverging_rate_is_noticed(losses: list[float], noticed: str) -> None:
    found = texts(remarks({}, losses))
    assert (noticed in found) if noticed else found == ""


def test_every_remark_says_what_to_try() -> None:
    found = [*start_remarks({"directions": 1}), *remarks({**GOOD, "val/sparsity/l0": 0.95}, [1.0, 2.0])]
    assert len(found) == 4
    lines = told(found).splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["warning", "HINT"] * 3 + ["note", "HINT"]
    assert told([]) == ""


def test_no_recipe_starts_with_a_remark() -> None:
    for path in (Path(__file__).parents[1] / "configs").glob("*.yaml"):
        arguments = yaml.safe_load(path.read_text())["model"]["objective"]["init_args"]
        objective = RDMReg(Target(**arguments["target"]), Directions(**arguments["directions"]))
        assert start_remarks(objective.description()) == [], path
