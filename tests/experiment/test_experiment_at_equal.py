"""A method beside another at an equal measured quantity: by hand, and against NumPy and SciPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from rectified_lpjepa.experiment.at_equal import Curve
from rectified_lpjepa.experiment.conditions import Condition
from rectified_lpjepa.experiment.groups import Group, Point
from rectified_lpjepa.experiment.verdicts import judge


def setting(runs: dict[int, tuple[float, float]], **values: Any) -> Group:
    """A setting, whose runs have an ℓ0 and an accuracy by their seed."""
    points = [
        Point("id", "name", values, seed, "", 1.0, {"l0": l0, "l0_target": values.get("f", 0.0), "top1": top1})
        for seed, (l0, top1) in runs.items()
    ]
    return Group("name", values, points)


def condition(**content: Any) -> Condition:
    given: dict[str, Any] = {
        "where": {"axis": 0.5},
        "above": {"axis": None},
        "by": -0.005,
        "at_equal": "l0",
        "over": "f",
    }
    return Condition("costs nothing", "top1", **given | content)


def plain(*places: tuple[float, float], seeds: tuple[int, ...] = (0,), **values: Any) -> list[Group]:
    return [setting(dict.fromkeys(seeds, place), f=rank, **values) for rank, place in enumerate(places)]


def test_between_two_settings_the_curve_is_linear_in_the_logarithm() -> None:
    curve = Curve(plain((0.4, 0.30), (0.1, 0.20), (0.025, 0.12)), "top1", "l0")
    assert curve.ends == (0.025, 0.4)
    # .2 is half way from .1 to .4, and .05 half way from .025 to .1.
    assert curve.value(0.2, seed=0) == pytest.approx(0.25)
    assert curve.value(0.05, seed=7) == pytest.approx(0.16)
    assert curve.value(0.1, seed=0) == pytest.approx(0.20)
    assert curve.value(0.41, seed=0) is None
    assert curve.value(0.0, seed=0) is None
    assert Curve([], "top1", "l0").value(0.2, seed=0) is None


def test_settings_that_are_not_measured_or_have_no_active_feature_are_not_on_the_curve() -> None:
    curve = Curve(plain((0.4, 0.3), (0.0, 0.01), (math.nan, 0.2), (0.1, math.nan), (0.1, 0.2)), "top1", "l0")
    assert curve.ends == (0.1, 0.4)


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1)), min_size=1, max_size=6, unique_by=lambda place: place[0]),
    st.floats(0.005, 1.1),
)
def test_the_curve_of_one_seed_is_numpys(places: list[tuple[float, float]], at: float) -> None:
    x, y = np.array(sorted(places)).T
    expected = float(np.interp(math.log(at), np.log(x), y)) if x[0] <= at <= x[-1] else None
    value = Curve(plain(*places), "top1", "l0").value(at, seed=0)
    assert value == (None if expected is None else pytest.approx(expected, abs=1e-9))


def test_a_seed_has_its_own_curve_only_between_neighbours_that_it_was_run_at() -> None:
    groups = [
        setting({0: (0.4, 0.30), 1: (0.4, 0.34)}, f=0.4),
        setting({0: (0.1, 0.20), 1: (0.1, 0.24)}, f=0.1),
        setting({0: (0.05, 0.18)}, f=0.05),
        setting({0: (0.025, 0.12), 1: (0.025, 0.16)}, f=0.025),
    ]
    curve = Curve(groups, "top1", "l0")
    assert curve.value(0.2, seed=0) == pytest.approx(0.25)
    assert curve.value(0.2, seed=1) == pytest.approx(0.29)
    assert curve.value(0.2, seed=2) == pytest.approx(0.27)  # means .32 and .22
    # Seed 1 jumps over .05, so that the means count: .18 at .05 and .14 at .025.
    assert curve.value(math.sqrt(0.05 * 0.025), seed=1) == pytest.approx(0.16)


def test_differences_are_judged_by_their_mean_and_students_interval() -> None:
    groups = [
        *plain((0.4, 0.30), (0.1, 0.20), (0.025, 0.12), seeds=(0, 1), p=2.0, axis=None),
        *plain((0.4, 0.40), (0.025, 0.20), seeds=(0, 1), p=1.0, axis=None),
        setting({0: (0.2, 0.252), 1: (0.2, 0.251)}, f=0.2, p=2.0, axis=0.5),
        setting({0: (0.05, 0.157)}, f=0.05, p=2.0, axis=0.5),
        setting({0: (0.1, 0.297), 1: (0.1, 0.299)}, f=0.1, p=1.0, axis=0.5),
    ]
    differences = [0.002, 0.001, -0.003, -0.003, -0.001]
    test = ttest_1samp(differences, -0.005)
    assert test.pvalue < 0.05
    low, high = test.confidence_interval(0.95)
    verdict = judge(condition(), groups)
    assert verdict.holds is True
    assert verdict.measured == (
        f"mean difference {np.mean(differences):.4g} ± {(high - low) / 2:.2g}, 5 pairs over settings and seeds; "
        "worst f=0.05, p=2: -0.003, from 0.157 against 0.16 at l0 0.05"
    )
    assert [cell["difference"] for cell in verdict.cells] == pytest.approx(differences)
    assert verdict.cells[2] == {
        "setting": "f=0.05, p=2",
        "seed": 0,
        "l0_target": 0.05,
        "l0": 0.05,
        "top1": 0.157,
        "reference": pytest.approx(0.16),
        "difference": pytest.approx(-0.003),
    }
    assert judge(condition(by=0.005), groups).holds is False
    undecided = judge(condition(by=0.0), groups)
    assert undecided.holds is None
    assert undecided.measured.endswith("undecided: the 95 % interval over the pairs is too wide")


def test_one_pair_counts_as_it_is() -> None:
    groups = [*plain((0.4, 0.30), (0.1, 0.20), axis=None), setting({0: (0.2, 0.246)}, f=0.2, axis=0.5)]
    verdict = judge(condition(), groups)
    assert verdict.holds is True
    assert verdict.measured.startswith("mean difference -0.004, 1 pair over settings and seeds; worst f=0.2: -0.004")
    assert judge(condition(by=-0.003), groups).holds is False


def test_nothing_is_extrapolated() -> None:
    groups = [
        *plain((0.4, 0.30), (0.1, 0.20), axis=None),
        setting({0: (0.2, 0.35)}, f=0.2, axis=0.5),
        setting({3: (0.05, 0.35)}, f=0.05, axis=0.5),
    ]
    verdict = judge(condition(), groups)
    assert verdict.holds is None
    assert verdict.measured.startswith("mean difference 0.1, 1 pair over")
    assert verdict.measured.endswith(
        "undecided: l0 is beyond the curve of axis=null, which is not extrapolated; "
        "f=0.05, seed 3 is at 0.05, it is from 0.1 to 0.4"
    )
    assert verdict.cells[1]["difference"] is None
    alone = judge(condition(), groups[2:])
    assert alone.holds is None
    assert "f=0.2, seed 0 is at 0.2, there is no curve" in alone.measured


def test_what_is_not_measured_cannot_be_compared() -> None:
    groups = plain((0.4, 0.30), (0.1, 0.20), axis=0.5)
    assert judge(condition(at_equal="l1"), groups).measured == "l1 is not measured"
