"""Conditions hold, do not hold, or are undecided, with the numbers behind it."""

from __future__ import annotations

from typing import Any

import pytest
from studies import made_group

from rectified_lpjepa.experiment.conditions import Condition
from rectified_lpjepa.experiment.verdicts import judge


def level(**content: Any) -> Condition:
    return Condition("a condition", "m", **content)


def over_mu(*means: float, spread: float = 0.0, **settings: Any):
    """Groups at μ = 0, −1, −2, …, of three seeds each."""
    return [
        made_group("m", [mean - spread, mean, mean + spread], f"mu={-place}", mu=-place, **settings)
        for place, mean in enumerate(means)
    ]


@pytest.mark.parametrize(
    ("means", "spread", "holds"),
    [
        ((0.5, 0.3, 0.1), 0.0, True),
        ((0.5, 0.3, 0.1), 0.01, True),
        ((0.5, 0.3, 0.4), 0.01, False),
        ((0.5, 0.3, 0.3), 0.0, False),
        ((0.5, 0.3, 0.1), 0.2, None),
        ((0.5,), 0.0, None),
    ],
)
def test_a_trend(means: tuple[float, ...], spread: float, holds: bool | None) -> None:
    verdict = judge(level(trend="increasing", over="mu"), over_mu(*means, spread=spread))
    assert verdict.holds is holds
    if holds is None:
        assert "undecided" in verdict.measured or "fewer than two values of mu" in verdict.measured


def test_a_trend_is_looked_at_for_each_other_setting() -> None:
    groups = [*over_mu(0.5, 0.3, p=2.0), *over_mu(0.2, 0.4, p=1.0)]
    rising = {p: judge(level(trend="increasing", over="mu", where={"p": p}), groups).holds for p in (2.0, 1.0)}
    assert rising == {2.0: True, 1.0: False}
    verdict = judge(level(trend="increasing", over="mu"), groups)
    assert verdict.holds is False
    assert verdict.measured == "p=2: mu=-1 0.3 ± 0, mu=0 0.5 ± 0; p=1: mu=-1 0.4 ± 0, mu=0 0.2 ± 0"
    assert judge(level(trend="decreasing", over="mu", where={"p": 1.0}), groups).holds is True
    assert judge(level(trend="increasing", over="mu", where={"p": [2.0, 1.0]}), groups) == verdict


def test_bounds_must_hold_for_every_setting() -> None:
    groups = over_mu(0.5, 0.3)
    assert judge(level(at_least=0.3), groups).holds is True
    assert judge(level(at_least=0.4), groups).holds is False
    assert judge(level(at_most=0.4, where={"mu": -1}), groups).holds is True
    assert judge(level(at_most=0.4), groups).holds is False
    assert judge(level(at_least=0.3), over_mu(0.31, spread=0.1)).holds is None


def test_nearness_to_another_metric() -> None:
    (group,) = over_mu(0.5)
    for point, asked in zip(group.points, (0.45, 0.46, 0.44), strict=True):
        point.metrics["asked"] = asked
    assert judge(level(within=0.1, of="asked"), [group]).holds is True
    assert judge(level(within=0.02, of="asked"), [group]).holds is False
    assert judge(level(within=0.06, of="asked"), [group]).holds is None
    assert "0.5 ± 0 against 0.45 ± 0.025" in judge(level(within=0.1, of="asked"), [group]).measured
    assert judge(level(at_least=0.0, of="asked"), [group]).holds is True
    assert judge(level(at_most=0.0, of="asked"), [group]).holds is False
    assert judge(level(within=0.1, of="other"), [group]).measured == "other is not measured"


def test_a_setting_that_never_has_the_other_metric_is_not_what_a_condition_is_about() -> None:
    groups = over_mu(0.5, 0.3)
    for point in groups[0].points:
        point.metrics["asked"] = 0.5
    verdict = judge(level(within=0.1, of="asked"), groups)
    assert verdict.holds is True
    assert verdict.measured == "mu=0 0.5 ± 0 against 0.5 ± 0"


def test_a_setting_in_which_a_seed_lacks_a_value_is_undecided() -> None:
    groups = over_mu(0.5, 0.3)
    for group in groups:
        for point in group.points:
            point.metrics["asked"] = point.metrics["m"]
    near = level(within=0.1, of="asked")
    assert judge(near, groups).holds is True
    lacking = groups[1].points[1]
    del lacking.metrics["asked"]
    verdict = judge(near, groups)
    assert verdict.holds is None
    assert verdict.measured == (
        "mu=0 0.5 ± 0 against 0.5 ± 0; "
        f"mu=-1 0.3 ± 0 against 0.3 ± 0, undecided: asked is not measured with seed {lacking.seed}"
    )
    assert [cell["setting"] for cell in verdict.cells] == ["mu=0"]
    # As many values, but of other seeds.
    del groups[1].points[2].metrics["m"]
    assert judge(near, groups).holds is None
    # A seed of which nothing is known is left out, as everywhere.
    lacking.metrics.clear()
    groups[1].points[2].metrics.update(m=0.3, asked=0.3)
    assert judge(near, groups).holds is True
    # What holds nowhere does not hold, whatever is missing.
    groups[0].points[0].metrics["asked"] = float("nan")
    assert judge(level(within=0.01, of="asked", where={"mu": 0}), groups).holds is None
    for point in groups[1].points:
        point.metrics.update(m=0.3, asked=0.9)
    assert judge(near, groups).holds is False


def test_nearness_may_be_a_share_of_what_is_asked_for() -> None:
    # .52 is .02 from .5, and 15 % of .5 is .075; .13 is .03 from .1, and 15 % of .1 is less than .02.
    groups = over_mu(0.52, 0.13)
    for group, asked in zip(groups, (0.5, 0.1), strict=True):
        for point in group.points:
            point.metrics["asked"] = asked
    near = {"within": 0.02, "relative": 0.15, "of": "asked"}
    assert judge(level(**near, where={"mu": 0}), groups).holds is True
    assert judge(level(**near, where={"mu": -1}), groups).holds is False
    assert judge(level(**near | {"relative": 0.31}), groups).holds is True
    verdict = judge(level(**near), groups)
    assert verdict.measured == "mu=0 0.52 ± 0 against 0.5 ± 0, to 0.075; mu=-1 0.13 ± 0 against 0.1 ± 0, to 0.02"
    assert [list(cell.values()) for cell in verdict.cells] == [
        ["mu=0", 3, 0.5, 0.52, pytest.approx(0.02), 0.075],
        ["mu=-1", 3, pytest.approx(0.1), 0.13, pytest.approx(0.03), 0.02],
    ]
    assert list(verdict.cells[0]) == ["setting", "seeds", "asked", "m", "difference", "tolerance"]


def test_one_setting_against_another() -> None:
    groups = [*over_mu(0.5, 0.3, p=2.0), *over_mu(0.4, 0.35, p=1.0)]
    at_zero = {"where": {"p": 2.0, "mu": 0}, "above": {"p": 1.0, "mu": 0}}
    assert judge(level(**at_zero), groups).holds is True
    assert judge(level(**at_zero, by=0.2), groups).holds is False
    assert judge(level(**at_zero, by=0.05), groups).measured == "mu=0 0.5 ± 0 against mu=0 0.4 ± 0"
    # μ is left open, and compared with the same μ.
    assert judge(level(where={"p": 2.0}, above={"p": 1.0}), groups).holds is False
    assert judge(level(where={"p": 2.0, "mu": [0, -1]}, above={"p": 1.0}, by=-0.1), groups).holds is True
    assert judge(level(where={"p": 2.0, "mu": 0}, above={"p": 3.0, "mu": 0}), groups).holds is None


def test_a_setting_that_is_not_set_is_asked_for_by_none() -> None:
    groups = [made_group("m", [0.5], "as it is", mu=0), made_group("m", [0.1], "fixed", mu=0, redrawn=False)]
    verdict = judge(level(where={"redrawn": None}, above={"redrawn": False}), groups)
    assert verdict.holds is True
    assert verdict.measured == "as it is 0.5 against fixed 0.1; one seed"


def test_what_is_not_measured_is_undecided() -> None:
    verdict = judge(level(at_least=0.3, where={"mu": 7}), over_mu(0.5))
    assert (verdict.holds, verdict.measured) == (None, "m is not measured at mu=7")
    assert judge(level(at_least=0.3), [made_group("m", [float("nan")])]).holds is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "must have one of trend, at_least, .* got none"),
        ({"at_least": 1, "at_most": 2}, "got at_least, at_most"),
        ({"trend": "rising", "over": "mu"}, "trend must be increasing or decreasing, got 'rising'"),
        ({"trend": "increasing"}, "trend needs over"),
        ({"within": 1}, "within needs of"),
        ({"at_least": 1, "over": "mu"}, "over goes with trend or at_equal alone"),
        ({"at_least": 1, "by": 1}, "by goes with above alone"),
        ({"at_least": 1, "relative": 0.1}, "relative goes with within alone"),
        ({"at_most": 1, "at_equal": "x"}, "at_equal goes with above alone"),
        ({"above": {"p": 1}, "at_equal": "x"}, "at_equal needs over"),
        ({"above": {"p": 1}, "over": "mu"}, "over goes with trend or at_equal alone"),
        ({"trend": "increasing", "over": "mu", "of": "x"}, "of goes with within or at_least or at_most alone"),
    ],
)
def test_a_condition_of_no_kind_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        level(**content)
