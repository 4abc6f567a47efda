"""Whether the conditions of an experiment hold, with the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

from rectified_lpjepa.experiment.at_equal import Curve, place_of
from rectified_lpjepa.experiment.conditions import Condition
from rectified_lpjepa.experiment.groups import Group, matches
from rectified_lpjepa.experiment.intervals import Interval, difference, interval
from rectified_lpjepa.sweep.manifest import shown


@dataclass(frozen=True)
class Verdict:
    """Whether a condition holds.

    Attributes:
        text: the condition in words.
        holds: None where it cannot be said.
        measured: the numbers, and why nothing can be said.
        metric: that the condition is about.
        cells: what was compared, one row for each setting, or each setting and seed, where the condition is ``within``
            or ``at_equal``. Keys with a slash name metrics; other numbers are in the unit of ``metric``.
    """

    text: str
    holds: bool | None
    measured: str
    metric: str = ""
    cells: list[dict[str, Any]] = field(default_factory=list)


def judge(condition: Condition, groups: Sequence[Group]) -> Verdict:
    """Say whether a condition holds.

    Args:
        condition: to be judged.
        groups: what was measured.
    """
    chosen = [group for group in groups if matches(group.values, condition.where) and group.measured(condition.metric)]
    if not chosen:
        about = f" at {_setting(condition.where)}" if condition.where else ""
        return Verdict(condition.text, None, f"{condition.metric} is not measured{about}", condition.metric)
    if condition.at_equal is not None:
        return _at_equal(condition, chosen, groups)
    cells: list[Cell] = []
    if condition.trend is not None:
        comparisons = list(_trends(condition, chosen))
        missing = f"fewer than two values of {condition.over} are measured"
    elif condition.above is not None:
        comparisons = list(_pairs(condition, chosen, groups))
        missing = f"{condition.metric} is not measured at {_setting(condition.above)}"
    else:
        comparisons, cells = _levels(condition, chosen)
        missing = f"{condition.of} is not measured"
    if not comparisons:
        return Verdict(condition.text, None, missing, condition.metric)
    verdicts = [comparison.holds for comparison in comparisons]
    holds = False if False in verdicts else None if None in verdicts else True
    told = "; ".join(dict.fromkeys(comparison.text for comparison in comparisons))
    if holds is None and any(one.holds is None and not one.is_incomplete for one in comparisons):
        told += "; undecided: the 95 % intervals over the seeds are too wide"
    if any(len(group.measured(condition.metric)) == 1 for group in chosen):
        told += "; one seed"
    return Verdict(condition.text, holds, told, condition.metric, cells)


class Comparison(NamedTuple):
    """One of the comparisons that a condition is about."""

    holds: bool | None
    text: str
    is_incomplete: bool = False
    """Whether nothing can be said because a value is missing."""


Cell = dict[str, Any]


def _trends(condition: Condition, groups: Sequence[Group]) -> Iterator[Comparison]:
    over, sign = str(condition.over), 1 if condition.trend == "increasing" else -1
    numbered = [group for group in groups if _is_number(group.values.get(over))]
    for rest, series in _series(numbered, {over, *_fixed(condition)}):
        ordered = sorted(series, key=lambda group: float(group.values[over]))
        text = f"{_setting(rest)}: " if rest else ""
        text += ", ".join(f"{over}={shown(group.values[over])} {_mean(group, condition.metric)}" for group in ordered)
        for low, high in pairwise(ordered):
            apart = difference(high.measured(condition.metric), low.measured(condition.metric))
            yield Comparison(_is_positive(Interval(sign * apart.mean, apart.half, apart.n)), text)


def _pairs(condition: Condition, groups: Sequence[Group], others: Sequence[Group]) -> Iterator[Comparison]:
    fixed = _fixed(condition)
    lower = _lower(condition, others)
    for group in groups:
        for other in lower:
            if other is not group and _without(other.values, fixed) == _without(group.values, fixed):
                apart = difference(group.measured(condition.metric), other.measured(condition.metric))
                holds = _is_positive(Interval(apart.mean - (condition.by or 0), apart.half, apart.n))
                told = [f"{one.label} {_mean(one, condition.metric)}" for one in (group, other)]
                yield Comparison(holds, " against ".join(told))


def _levels(condition: Condition, groups: Sequence[Group]) -> tuple[list[Comparison], list[Cell]]:
    comparisons: list[Comparison] = []
    cells: list[Cell] = []
    if condition.of is not None and not any(group.measured(condition.of) for group in groups):
        return comparisons, cells
    for group in groups:
        measured = group.measured(condition.metric)
        text = f"{group.label} {_mean(group, condition.metric)}"
        others: list[float] = []
        if condition.of is not None:
            if not group.measured(condition.of):  # a method without a target, say, is not what the condition is about
                continue
            text += f" against {_mean(group, condition.of)}"
            if lacking := _unpaired(group, condition.metric, condition.of):
                comparisons.append(Comparison(None, f"{text}, undecided: {lacking}", is_incomplete=True))
                continue
            others = group.measured(condition.of)
        found = interval([value - other for value, other in zip(measured, others, strict=True)] if others else measured)
        assert found is not None
        if condition.within is not None:
            tolerance = max(condition.within, (condition.relative or 0) * abs(fmean(others)))
            slack = tolerance - abs(found.mean)
            cells.append(
                {
                    "setting": _setting(_open(condition, group)) or group.label,
                    "seeds": found.n,
                    str(condition.of): fmean(others),
                    condition.metric: fmean(measured),
                    "difference": found.mean,
                    "tolerance": tolerance,
                }
            )
            if condition.relative is not None:
                text += f", to {tolerance:.4g}"
        elif condition.at_least is not None:
            slack = found.mean - condition.at_least
        else:
            assert condition.at_most is not None
            slack = condition.at_most - found.mean
        comparisons.append(Comparison(_is_positive(Interval(slack, found.half, found.n), or_zero=True), text))
    return comparisons, cells


def _unpaired(group: Group, *metrics: str) -> str:
    """Say which of some metrics is missing for which seeds, where a seed has another of them; empty for none."""
    lacking: dict[str, list[int]] = {}
    for point in group.points:
        missing = [metric for metric in metrics if not math.isfinite(point.metrics.get(metric, math.nan))]
        for metric in missing if len(missing) < len(metrics) else ():
            lacking.setdefault(metric, []).append(point.seed)
    return ", ".join(
        f"{metric} is not measured with seed {', '.join(map(str, seeds))}" for metric, seeds in lacking.items()
    )


def _at_equal(condition: Condition, groups: Sequence[Group], others: Sequence[Group]) -> Verdict:
    metric, equal = condition.metric, str(condition.at_equal)
    apart = _fixed(condition) | {str(condition.over)}
    lower = _lower(condition, others)
    cells: list[Cell] = []
    beyond: list[str] = []
    for group in groups:
        rest = _without(group.values, apart)
        same = [other for other in lower if other is not group and _without(other.values, apart) == rest]
        curve = Curve(same, metric, equal)
        for point in group.points:
            place = place_of(point, metric, equal)
            if place is None:
                continue
            reference = curve.value(place.at, point.seed)
            cell = {"setting": _setting(_open(condition, group)) or group.label, "seed": point.seed}
            if f"{equal}_target" in point.metrics:
                cell[f"{equal}_target"] = point.metrics[f"{equal}_target"]
            cell |= {equal: place.at, metric: place.value, "reference": reference}
            cell["difference"] = None if reference is None else place.value - reference
            cells.append(cell)
            if reference is None:
                ends = "there is no curve" if curve.ends is None else "it is from {:.4g} to {:.4g}".format(*curve.ends)
                beyond.append(f"{cell['setting']}, seed {point.seed} is at {place.at:.4g}, {ends}")
    if not cells:
        return Verdict(condition.text, None, f"{equal} is not measured", metric)
    compared = [cell for cell in cells if cell["difference"] is not None]
    holds, told = _of_mean(compared, condition) if compared else (None, [])
    if beyond:
        curve_of = _setting(condition.above or {})
        told.append(f"undecided: {equal} is beyond the curve of {curve_of}, which is not extrapolated")
        told += beyond
    return Verdict(condition.text, None if beyond else holds, "; ".join(told), metric, cells)


def _of_mean(cells: Sequence[Cell], condition: Condition) -> tuple[bool | None, list[str]]:
    """Judge by the mean of paired differences, and tell of it and of the setting that has the lowest."""
    found = interval(cell["difference"] for cell in cells)
    assert found is not None
    holds = _is_positive(Interval(found.mean - (condition.by or 0), found.half, found.n))
    told = [f"mean difference {_written(found)}, {found.n} pair{'s' * (found.n > 1)} over settings and seeds"]
    settings = dict.fromkeys(cell["setting"] for cell in cells)
    columns = (str(condition.at_equal), condition.metric, "reference", "difference")
    means = {
        setting: [fmean(cell[name] for cell in cells if cell["setting"] == setting) for name in columns]
        for setting in settings
    }
    worst = min(means, key=lambda setting: means[setting][-1])
    at, value, reference, apart = means[worst]
    told.append(
        f"worst {worst}: {apart:.4g}, from {value:.4g} against {reference:.4g} at {condition.at_equal} {at:.4g}"
    )
    if holds is None:
        told.append("undecided: the 95 % interval over the pairs is too wide")
    return holds, told


def _lower(condition: Condition, groups: Sequence[Group]) -> list[Group]:
    above = condition.above or {}
    return [group for group in groups if matches(group.values, above) and group.measured(condition.metric)]


def _fixed(condition: Condition) -> set[str]:
    """Give the names of the settings that may differ between two that are compared."""
    above = condition.above or {}
    return {*above, *(name for name, allowed in condition.where.items() if not isinstance(allowed, list))}


def _open(condition: Condition, group: Group) -> dict[str, Any]:
    """Give the settings of a group that the condition does not fix to one value."""
    return _without(group.values, _fixed(condition))


def _is_positive(value: Interval, *, or_zero: bool = False) -> bool | None:
    """Say whether a number is above zero; None where its interval has zero within it."""
    if value.half and abs(value.mean) <= value.half:
        return None
    return value.mean > 0 or (or_zero and value.mean == 0)


def _series(groups: Sequence[Group], apart: set[str]) -> Iterator[tuple[dict[str, Any], list[Group]]]:
    """Put groups together of which all settings are the same apart from some."""
    found: list[tuple[dict[str, Any], list[Group]]] = []
    for group in groups:
        others = _without(group.values, apart)
        same = next((series for values, series in found if values == others), None)
        if same is None:
            found.append((others, [group]))
        else:
            same.append(group)
    yield from found


def _without(values: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _setting(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={shown(value)}" for name, value in values.items())


def _mean(group: Group, metric: str) -> str:
    found = interval(group.measured(metric))
    return "?" if found is None else _written(found)


def _written(found: Interval) -> str:
    return f"{found.mean:.4g}" + (f" ± {found.half:.2g}" if found.half is not None else "")
