"""The conditions of an experiment: what its numbers are expected to do, and whether they did.

A condition is of one of three kinds:

.. code-block:: yaml

    - text: ℓ0 falls with μ             # means over seeds go one way
      metric: val/sparsity/l0
      trend: increasing                 # or decreasing
      over: mu
    - text: ℓ0 is the one asked for     # each setting on its own
      metric: val/sparsity/l0
      within: 0.05                      # or at_least, or at_most: of the difference, or without `of` of the metric
      of: val/sparsity/l0_target
      where: {p: 2.0}
    - text: ReLU needs a rectified target   # one setting against another
      metric: val/probe_encoder/top1
      where: {rectified: true}
      above: {rectified: false}
      by: 0.01

Settings that ``where`` leaves open, or lists as ``mu: [0.0, -1.0]``, are looked at one by one, and the condition must
hold for all of them; of two that are compared they are the same. What several seeds measured counts with its 95 %
interval: a condition holds if all of the interval is on its side, is not met if all of it is on the other, and is
undecided in between. A single seed counts as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from rectified_lpjepa.experiment.groups import Group, matches
from rectified_lpjepa.experiment.intervals import Interval, difference, interval
from rectified_lpjepa.sweep.manifest import shown

_KINDS = ("trend", "at_least", "at_most", "within", "above")
_TRENDS = ("increasing", "decreasing")


@dataclass(frozen=True)
class Condition:
    """What a metric is expected to do; see the module's text.

    Args:
        text: in words.
        metric: its name.
        where: the settings that it is about: a value or a list of values by short name, None for an option that is not
            set.
        profiles: that it is expected of; by default all.
        trend: ``increasing`` or ``decreasing``.
        over: short name of the number over which there is a trend.
        at_least: the metric, less the metric ``of`` if there is one, is at least this.
        at_most: the metric, less the metric ``of`` if there is one, is at most this.
        within: the metric is at most this far from the metric ``of``.
        of: name of another metric of the same runs.
        above: the settings that are to have less of the metric than those of ``where``, by short name.
        by: how much less.

    Raises:
        ValueError: it is of none of the kinds, or of two, or a key is missing or of another kind.
    """

    text: str
    metric: str
    where: dict[str, Any] = field(default_factory=dict)
    profiles: list[str] = field(default_factory=list)
    trend: str | None = None
    over: str | None = None
    at_least: float | int | None = None
    at_most: float | int | None = None
    within: float | int | None = None
    of: str | None = None
    above: dict[str, Any] | None = None
    by: float | int | None = None

    def __post_init__(self) -> None:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"the condition {self.text!r} must have one of {', '.join(_KINDS)}, got {', '.join(given) or 'none'}."
            )
        if self.trend not in (None, *_TRENDS):
            raise ValueError(f"the condition {self.text!r}: trend must be {' or '.join(_TRENDS)}, got {self.trend!r}.")
        for name, kinds in (("over", ("trend",)), ("of", ("within", "at_least", "at_most")), ("by", ("above",))):
            if getattr(self, name) is not None and given[0] not in kinds:
                raise ValueError(f"the condition {self.text!r}: {name} goes with {' or '.join(kinds)} alone.")
        for kind, name in (("trend", "over"), ("within", "of")):
            if given[0] == kind and getattr(self, name) is None:
                raise ValueError(f"the condition {self.text!r}: {kind} needs {name}.")

    @property
    def names(self) -> set[str]:
        """The short names of the settings that it speaks of."""
        return {*self.where, *(self.above or {}), *([self.over] if self.over else [])}


@dataclass(frozen=True)
class Verdict:
    """Whether a condition holds.

    Attributes:
        text: the condition in words.
        holds: None where it cannot be said.
        measured: the numbers, and why nothing can be said.
    """

    text: str
    holds: bool | None
    measured: str


def judge(condition: Condition, groups: Sequence[Group]) -> Verdict:
    """Say whether a condition holds.

    Args:
        condition: to be judged.
        groups: what was measured.
    """
    chosen = [group for group in groups if matches(group.values, condition.where) and group.measured(condition.metric)]
    if not chosen:
        about = f" at {_setting(condition.where)}" if condition.where else ""
        return Verdict(condition.text, None, f"{condition.metric} is not measured{about}")
    if condition.trend is not None:
        comparisons = list(_trends(condition, chosen))
        missing = f"fewer than two values of {condition.over} are measured"
    elif condition.above is not None:
        comparisons = list(_pairs(condition, chosen, groups))
        missing = f"{condition.metric} is not measured at {_setting(condition.above)}"
    else:
        comparisons = list(_levels(condition, chosen))
        missing = f"{condition.of} is not measured"
    if not comparisons:
        return Verdict(condition.text, None, missing)
    verdicts = [holds for holds, _ in comparisons]
    holds = False if False in verdicts else None if None in verdicts else True
    told = "; ".join(dict.fromkeys(text for _, text in comparisons))
    if holds is None:
        told += "; undecided: the 95 % intervals over the seeds are too wide"
    if any(len(group.measured(condition.metric)) == 1 for group in chosen):
        told += "; one seed"
    return Verdict(condition.text, holds, told)


Comparison = tuple[bool | None, str]


def _trends(condition: Condition, groups: Sequence[Group]) -> Iterator[Comparison]:
    over, sign = str(condition.over), 1 if condition.trend == "increasing" else -1
    numbered = [group for group in groups if _is_number(group.values.get(over))]
    for rest, series in _series(numbered, {over, *condition.where}):
        ordered = sorted(series, key=lambda group: float(group.values[over]))
        text = f"{_setting(rest)}: " if rest else ""
        text += ", ".join(f"{over}={shown(group.values[over])} {_mean(group, condition.metric)}" for group in ordered)
        for low, high in pairwise(ordered):
            apart = difference(high.measured(condition.metric), low.measured(condition.metric))
            yield _is_positive(Interval(sign * apart.mean, apart.half, apart.n)), text


def _pairs(condition: Condition, groups: Sequence[Group], others: Sequence[Group]) -> Iterator[Comparison]:
    above = condition.above or {}
    several = {name for name, allowed in condition.where.items() if isinstance(allowed, list)}
    fixed = {*condition.where, *above} - (several - above.keys())
    lower = [group for group in others if matches(group.values, above) and group.measured(condition.metric)]
    for group in groups:
        for other in lower:
            if other is not group and _without(other.values, fixed) == _without(group.values, fixed):
                apart = difference(group.measured(condition.metric), other.measured(condition.metric))
                holds = _is_positive(Interval(apart.mean - (condition.by or 0), apart.half, apart.n))
                told = [f"{one.label} {_mean(one, condition.metric)}" for one in (group, other)]
                yield holds, " against ".join(told)


def _levels(condition: Condition, groups: Sequence[Group]) -> Iterator[Comparison]:
    for group in groups:
        measured = group.measured(condition.metric)
        text = f"{group.label} {_mean(group, condition.metric)}"
        if condition.of is not None:
            others = group.measured(condition.of)
            if len(others) != len(measured):
                continue
            measured = [value - other for value, other in zip(measured, others, strict=True)]
            text += f" against {_mean(group, condition.of)}"
        found = interval(measured)
        assert found is not None
        if condition.within is not None:
            slack = condition.within - abs(found.mean)
        elif condition.at_least is not None:
            slack = found.mean - condition.at_least
        else:
            assert condition.at_most is not None
            slack = condition.at_most - found.mean
        yield _is_positive(Interval(slack, found.half, found.n), or_zero=True), text


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
    if found is None:
        return "?"
    return f"{found.mean:.4g}" + (f" ± {found.half:.2g}" if found.half is not None else "")
