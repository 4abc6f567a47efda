"""The points of an experiment, and those of them that differ in their seeds alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Point:
    """One run as it was evaluated, as ``experiment.json`` holds it.

    Attributes:
        id: of the run in its sweep.
        label: what people call it, without its seed.
        values: what varies, by short name.
        seed: of the run.
        run_dir: the run directory, relative to the experiment's folder.
        seconds: that training took.
        metrics: the run's last ``train/…`` and ``val/…`` values, its ``cost/seconds_per_step`` and
            ``cost/peak_memory_gib``, and what each evaluation found as ``<evaluation>/…``.
        remarks: what was noticed: severity, text, measured and advice.
    """

    id: str
    label: str
    values: dict[str, Any]
    seed: int
    run_dir: str
    seconds: float
    metrics: dict[str, float]
    remarks: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Group:
    """Points that differ in their seeds alone.

    Attributes:
        label: of the points.
        values: what varies, by short name.
        points: one for each seed.
    """

    label: str
    values: dict[str, Any]
    points: list[Point]

    def measured(self, metric: str) -> list[float]:
        """Return the finite values of a metric, in the order of the seeds."""
        found = [point.metrics.get(metric, math.nan) for point in self.points]
        return [value for value in found if math.isfinite(value)]


def grouped(points: Sequence[Point]) -> list[Group]:
    """Put points together that differ in their seeds alone, in the order in which they come."""
    groups: dict[str, Group] = {}
    for point in points:
        key = json.dumps(point.values, sort_keys=True)
        groups.setdefault(key, Group(point.label, point.values, [])).points.append(point)
    return list(groups.values())


def matches(values: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Say whether values are as asked for.

    Args:
        values: of a point, by short name.
        where: a value, or a list of values, by short name; None asks for a value that is not set.
    """
    return all(
        values.get(name) in (allowed if isinstance(allowed, list) else [allowed]) for name, allowed in where.items()
    )
