"""What the report of an experiment shows: columns, labels, figures, and what is published beside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rectified_lpjepa.commands import nearest
from rectified_lpjepa.experiment.groups import Group, matches

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
        x_label: what that axis says, where the short name does not say it to a reader.
        series: short name that makes a line of its own for each value; or settings that make a line each, by what
            they are called, such as ``{plain: {axis_weight: null}, ours: {axis_weight: 0.5}}``.
        where: the points that are drawn, by short name.
        within: of ``l0_over_target``: how far the measured may be from what is asked for, which is drawn as a band.
        relative: a share of what is asked for: what ``within`` is, where that is less than this.

    Raises:
        ValueError: there is no such kind, or it has no band.
    """

    kind: str
    title: str | None = None
    metric: str | None = None
    metrics: list[str] | None = None
    x: str | None = None
    log_x: bool = False
    x_label: str | None = None
    series: str | dict[str, dict[str, Any]] | None = None
    where: dict[str, Any] | None = None
    within: float | int | None = None
    relative: float | int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FIGURES:
            raise ValueError(
                f"there is no figure of the kind {self.kind!r}; known are {', '.join(FIGURES)}."
                f"{nearest(self.kind, FIGURES)}"
            )
        if self.within is not None and self.kind != "l0_over_target":
            raise ValueError(f"the figure {self.kind}: within goes with l0_over_target alone.")
        if self.relative is not None and self.within is None:
            raise ValueError(f"the figure {self.kind}: relative needs within.")

    @property
    def names(self) -> set[str]:
        """The short names of the settings that it speaks of."""
        names = set(self.where or {})
        if isinstance(self.series, str):
            names.add(self.series)
        elif self.series is not None:
            names.update(*self.series.values())
        return names


def is_beside(row: Published, group: Group) -> bool:
    """Say whether a published result is of the setting of a group: all that it says of itself agrees."""
    return matches(group.values, row.values) if row.values else row.label == group.label
