"""How points, intervals, predictions and published results look in every figure of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rectified_lpjepa.plots import BLUE, GREEN, MEASURED, ORANGE, PREDICTED, PURPLE, SKY

# One marker more than colours: the seventh series has the first one's colour and a marker of its own, and so on.
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, "black")
_MARKERS = ("o", "s", "^", "v", "P", "X", "<")
GREY = "0.45"
_SQUEEZED, _APART = 3.0, 1.5  # see panels_apart


@dataclass(frozen=True)
class Series:
    """Points of one colour, sorted by x.

    Attributes:
        label: in the legend; empty for a series that needs none.
        x: where the points lie, or names of categories.
        y: means over seeds.
        half: half the widths of the 95 % intervals of y; None where there is one seed.
        x_half: the same of x, where x was measured.
        theory: what the target predicts for y.
        published: x and y of published results.
        joined: whether a line may join the points; methods, which have no order, are not joined.
    """

    label: str
    x: Sequence[Any]
    y: Sequence[float]
    half: Sequence[float | None] = ()
    x_half: Sequence[float | None] = ()
    theory: Sequence[float | None] = ()
    published: Sequence[tuple[Any, float]] = ()
    joined: bool = True


def panels_apart(panels: Mapping[str, Sequence[Series]]) -> list[tuple[str, Sequence[Series]]]:
    """Give what is published a panel of its own, above ours, where both in one would squeeze ours.

    That is where ours would have less than a third of a common panel, and the medians differ by a factor of 1.5.

    Args:
        panels: series by what y is.

    Returns:
        The panels from top to bottom.
    """
    rows: list[tuple[str, Sequence[Series]]] = []
    for label, series in panels.items():
        if _is_apart(series):
            rows.append(
                (f"{label}\npublished", [replace(one, x=(), y=(), half=(), x_half=(), theory=()) for one in series])
            )
            rows.append((f"{label}\nours", [replace(one, published=()) for one in series]))
        else:
            rows.append((label, series))
    return rows


def _is_apart(series: Sequence[Series]) -> bool:
    ours = [y for one in series for y in (*one.y, *(y for y in one.theory if y is not None))]
    published = [y for one in series for _, y in one.published]
    if not published:
        return False
    extent, common = (max(values) - min(values) for values in (ours, [*ours, *published]))
    low, high = sorted((median(ours), median(published)))
    return common > _SQUEEZED * extent and high > _APART * low


def draw_points(axes: Axes, series: Sequence[Series], connected: bool = True) -> None:
    """Draw series with their intervals, predictions and published results.

    Args:
        axes: of the panel.
        series: what to draw.
        connected: whether lines join the points, and predictions are drawn.
    """
    for one, (colour, marker) in zip(series, looks(len(series)), strict=True):
        x, y = array(one.x), array(one.y)
        if connected and is_known(one.theory):
            theory_colour = PREDICTED if len(series) == 1 else colour
            axes.plot(x, array(one.theory), color=theory_colour, linestyle="--", linewidth=1.0, zorder=1.5)
        if one.published:
            where, what = zip(*sorted(one.published), strict=True)
            axes.plot(where, what, linestyle=":" if one.joined else "none", linewidth=0.8, **hollow(colour, line=True))
        draw_whiskers(axes, x, y, one.half, one.x_half, colour)
        linestyle = "-" if connected and one.joined else "none"
        axes.plot(x, y, color=colour, marker=marker, markersize=4, linestyle=linestyle, zorder=3)


def draw_whiskers(
    axes: Axes,
    x: Any,
    y: Any,
    y_half: Sequence[float | None] = (),
    x_half: Sequence[float | None] = (),
    colour: str = MEASURED,
) -> None:
    """Draw intervals, where they are known.

    Args:
        axes: of the panel.
        x: means along the horizontal axis.
        y: means along the vertical axis.
        y_half: half the widths of the intervals of y.
        x_half: half the widths of the intervals of x.
        colour: of the whiskers.
    """
    for name, half in (("yerr", y_half), ("xerr", x_half)):
        if is_known(half):
            known = ~np.isnan(array(half))
            error: dict[str, Any] = {name: array(half)[known]}
            place = np.asarray(x, dtype=float)[known], np.asarray(y, dtype=float)[known]
            axes.errorbar(*place, **error, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2, capthick=0.9, zorder=2)


def series_legend(
    figure: Figure,
    series: Sequence[Series],
    extra: Sequence[Artist] = (),
    *,
    published: bool = False,
    markers: bool = True,
) -> None:
    """Put a legend of series above the panels.

    Args:
        figure: that has them.
        series: what is drawn; one alone without a label is told only from what stands beside it.
        extra: further entries.
        published: whether something published is drawn, though not of these series.
        markers: whether the points have markers.
    """
    beside = [published_handle()] if published or any(one.published for one in series) else []
    own = [
        Line2D(
            *([], []),
            color=colour,
            marker=marker if markers else None,
            markersize=4,
            linestyle="-" if one.joined else "none",
            label=one.label or "measured",
        )
        for one, (colour, marker) in zip(series, looks(len(series)), strict=True)
        if one.label or beside or extra
    ]
    place_legend(figure, [*own, *beside, *extra])


def place_legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put a legend above the panels, in as many columns as there is room for; none without entries."""
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        columns = 1 if longest > 26 else 2 if longest > 13 else 3
        figure.legend(handles=handles, loc="outside upper center", ncols=min(columns, len(handles)), handlelength=1.6)


def published_handle() -> Line2D:
    """Return the entry of a legend for published results."""
    return Line2D([], [], linestyle="none", label="published", **hollow(GREY))


def hollow(colour: str, line: bool = False) -> dict[str, Any]:
    """Return the look of published results, for ``plot``; with ``line`` that of the line that joins them, too."""
    look = {"marker": "D", "markersize": 4.5, "markerfacecolor": "white", "markeredgecolor": colour, "zorder": 2.5}
    return look | {"markeredgewidth": 1.1} | ({"color": colour} if line else {})


def predicted_handle(label: str, colour: str = PREDICTED, linestyle: Any = "--") -> Line2D:
    """Return the entry of a legend for what is predicted."""
    return Line2D([], [], color=colour, linestyle=linestyle, linewidth=1.1, label=label)


def looks(count: int) -> list[tuple[str, str]]:
    """Return a colour and a marker for each of so many series, by which up to 42 are told apart."""
    return [(_COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]) for index in range(count)]


def array(values: Sequence[Any]) -> Any:
    """Return numbers as float64, with NaN for None."""
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def is_known(values: Sequence[float | None]) -> bool:
    """Say whether any of the numbers is known."""
    return any(value is not None for value in values)
