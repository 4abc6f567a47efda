"""Which points a figure shows, and how they fall into series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rectified_lpjepa.experiment.groups import Group, matches
from rectified_lpjepa.experiment.intervals import Interval, interval
from rectified_lpjepa.experiment.presentation import is_beside
from rectified_lpjepa.experiment.report.drawing import NothingToDrawError
from rectified_lpjepa.experiment.report.marks import Series
from rectified_lpjepa.experiment.report.quantities import Quantity
from rectified_lpjepa.experiment.report.results import Results, mean_of
from rectified_lpjepa.sweep.manifest import shown


@dataclass(frozen=True)
class Bundle:
    """The groups of one series, in order, with the values that they share and that tell the series apart."""

    label: str
    key: Mapping[str, Any]
    groups: Sequence[Group]


def select(results: Results, where: Mapping[str, Any]) -> Results:
    """Keep the points, and the published results, whose values are as given.

    Args:
        results: all points.
        where: a value, or a list of values, by short name; None asks for a value that is not set.
    """
    return replace(
        results,
        points=[point for point in results.points if matches(point.values, where)],
        published=[one for one in results.published if matches(one.values, where)],
    )


def bundles(results: Results, names: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> list[Bundle]:
    """Put the groups that agree in some values into one series each.

    Args:
        results: the points to show.
        names: short names of the values that tell the series apart, those that do not vary are left out; or the setting
            of each series by its label, groups of no such setting are left out.
    """
    if isinstance(names, Mapping):
        chosen = [
            Bundle(label, where, [group for group in results.groups if matches(group.values, where)])
            for label, where in names.items()
        ]
        return [bundle for bundle in chosen if bundle.groups]
    told = [name for name in names if len({shown(group.values.get(name)) for group in results.groups}) > 1]
    found: dict[str, Bundle] = {}
    for group in results.groups:
        key = {name: group.values.get(name) for name in told}
        label = _label(key)
        former = found.get(label, Bundle(label, key, []))
        found[label] = replace(former, groups=[*former.groups, group])
    return list(found.values())


def over_metric(results: Results, bundle: Bundle, y: Quantity, x: Quantity) -> Series | None:
    """Make a series of a metric over another metric of the same runs.

    A published result that lacks x, and x is the target's, takes the target of our runs at the same settings.

    Returns:
        The series by rising x, or None if no group has both metrics.
    """
    pairs = [(mean_of(group, x.metric), mean_of(group, y.metric)) for group in bundle.groups]
    found = sorted(((a, b) for a, b in pairs if a and b), key=lambda places: places[0].mean)
    if not found:
        return None
    published = []
    for one in _published(results, bundle, y):
        at = one.metrics.get(x.metric)
        if at is None and x.metric.endswith("_target"):
            ours = [mean for group in bundle.groups if is_beside(one, group) and (mean := mean_of(group, x.metric))]
            at = ours[0].mean if ours else None
        if at is not None:
            published.append((at * x.factor, one.metrics[y.metric] * y.factor))
    return Series(
        bundle.label,
        [a.mean * x.factor for a, _ in found],
        *_scaled([b for _, b in found], y),
        x_half=_scaled([a for a, _ in found], x)[1],
        published=published,
        joined=_differ_in_numbers(bundle.groups),
    )


def _differ_in_numbers(groups: Sequence[Group]) -> bool:
    """Say whether groups are settings of one or more numbers, and agree in everything else."""
    for name in {name for group in groups for name in group.values}:
        values = [group.values.get(name) for group in groups]
        if len({shown(value) for value in values}) > 1 and not all(type(value) in (int, float) for value in values):
            return False
    return True


def over_value(results: Results, bundle: Bundle, y: Quantity, x: str) -> Series | None:
    """Make a series of a metric over a value that varies, with the target's metric and published ones.

    Args:
        results: where the published results are.
        bundle: the groups of the series.
        y: the metric.
        x: short name of the value.

    Returns:
        The series, by rising x if x is a number; None if no group has the metric.

    Raises:
        NothingToDrawError: two groups of the series have the same x.
    """
    found: dict[Any, tuple[Interval, Interval | None]] = {}
    for group in bundle.groups:
        measured = mean_of(group, y.metric)
        if measured is None or x not in group.values:
            continue
        at = _place(group.values[x])
        if at in found:
            raise NothingToDrawError(
                f"several settings have {x}={shown(at)}{' and ' if bundle.label else ''}{bundle.label}; "
                "`series` or `where` in the experiment file tells them apart"
            )
        found[at] = measured, mean_of(group, f"{y.metric}_target")
    if not found:
        return None
    order = list(found) if any(isinstance(at, str) for at in found) else sorted(found)
    return Series(
        bundle.label,
        order,
        *_scaled([found[at][0] for at in order], y),
        theory=_scaled([found[at][1] for at in order], y)[0],
        published=[
            (_place(one.values[x]), one.metrics[y.metric] * y.factor)
            for one in _published(results, bundle, y)
            if x in one.values
        ],
    )


def over_epochs(results: Results, bundle: Bundle, y: Quantity) -> Series | None:
    """Make a series of a metric that training logged over the finished epochs, None if no run logged it."""
    histories = [results.history(point, y.metric) for group in bundle.groups for point in group.points]
    epochs = sorted({epoch for history in histories for epoch in history})
    means = {epoch: interval(history[epoch] for history in histories if epoch in history) for epoch in epochs}
    known = {epoch: mean for epoch, mean in means.items() if mean is not None}
    return Series(bundle.label, list(known), *_scaled(list(known.values()), y)) if known else None


def _published(results: Results, bundle: Bundle, y: Quantity) -> list[Any]:
    return [one for one in results.published if y.metric in one.metrics and matches(one.values, bundle.key)]


def _scaled(means: Sequence[Interval | None], of: Quantity) -> tuple[list[Any], list[float | None]]:
    return (
        [None if mean is None else mean.mean * of.factor for mean in means],
        [None if mean is None or mean.half is None else mean.half * of.factor for mean in means],
    )


def _place(value: Any) -> Any:
    """Return a number as it is, and the name of anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else shown(value)


def _label(key: Mapping[str, Any]) -> str:
    """Write what tells a series apart: ``p=2``, but ``random`` for a name that needs no explanation."""
    return ", ".join(_part(name, value) for name, value in key.items())


def _part(name: str, value: Any) -> str:
    if value is None:
        return f"{name} not set"
    return value if isinstance(value, str) else f"{name}={shown(value)}"
