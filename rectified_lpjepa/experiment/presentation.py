"""What the report of an experiment shows: columns, labels, figures, and what is published beside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rectified_lpjepa.experiment.groups import Group, matches
from rectified_lpjepa.sweep.yaml_file import nearest

FIGURES = (
    "accuracy_over_l0",
    "l0_over_target",
    "curve",
    "convergence",
    "bars",
    "spectrum",
    "qq",
    "activity_per_class",
    "entropy_over_sparsity",
    "score_histogram",
)


@dataclass(frozen=True)
class Column:
    """A column of the experiment's tables.

    Args:
        metric: its name.
        label: in the heading.
        unit: ``%`` for a share that is shown in percent, or nothing.
    """

    metric: str
    label: str
    unit: str = ""

    def __post_init__(self) -> None:
        if self.unit not in ("", "%"):
            raise ValueError(f"the unit of {self.metric} must be % or nothing, got {self.unit!r}.")


@dataclass(frozen=True)
class Label:
    """What people call the points of a setting; of several labels that fit, the last one counts.

    Args:
        label: the name.
        where: the setting, by short name.
    """

    label: str
    where: dict[str, Any]


@dataclass(frozen=True)
class Published:
    """A published result.

    Args:
        label: what it was measured on.
        metrics: numbers by the names of our own.
        source: where it was published.
        mark: † for numbers read off a plot or taken from notes on the paper, ‡ for calculated ones.
        values: the setting that it is to be compared with, by short name.
        profiles: that it stands beside; by default all.
    """

    label: str
    metrics: dict[str, float | int]
    source: str
    mark: str
    values: dict[str, Any] = field(default_factory=dict)
    profiles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.mark not in ("†", "‡"):
            raise ValueError(f"the mark of {self.label!r} must be † or ‡, got {self.mark!r}.")


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Args:
        kind: one of :data:`FIGURES`.
        title: above it.
        metric: what is drawn.
        metrics: what is drawn, where it is several.
        x: short name, or metric, along the horizontal axis.
        log_x: whether that axis is logarithmic.
        series: short name that makes a line of its own for each value.
        where: the points that are drawn, by short name.

    Raises:
        ValueError: there is no such kind.
    """

    kind: str
    title: str | None = None
    metric: str | None = None
    metrics: list[str] | None = None
    x: str | None = None
    log_x: bool = False
    series: str | None = None
    where: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.kind not in FIGURES:
            raise ValueError(
                f"there is no figure of the kind {self.kind!r}; known are {', '.join(FIGURES)}."
                f"{nearest(self.kind, FIGURES)}"
            )


def is_beside(row: Published, group: Group) -> bool:
    """Say whether a published result is of the setting of a group: all that it says of itself agrees."""
    return matches(group.values, row.values) if row.values else row.label == group.label
