"""Figures of an experiment, from the means over its seeds: pure functions from numbers to a figure.

They have the style of :mod:`rectified_lpjepa.plots`: one column wide, blue is measured and vermilion predicted. Several
series are told apart by colour and marker, and published results are hollow diamonds in the colour of their series.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rectified_lpjepa.experiment.report.marks import (
    GREY,
    Series,
    array,
    draw_points,
    draw_whiskers,
    hollow,
    is_known,
    looks,
    panels_apart,
    place_legend,
    predicted_handle,
    published_handle,
    series_legend,
)
from rectified_lpjepa.experiment.report.sheets import category_axis, log_axis, sheet, wide_axis
from rectified_lpjepa.plots import MEASURED, PREDICTED
from rectified_lpjepa.remarks import CLIFF

_WRAP = 24  # characters of a label of a bar in a line


@dataclass(frozen=True)
class Bar:
    """One bar: a mean over seeds, half its 95 % interval, and what is predicted and published, where they are."""

    label: str
    value: float
    half: float | None = None
    theory: float | None = None
    published: float | None = None


def accuracy_over_l0(series: Sequence[Series], xlabel: str, ylabel: str, *, connected: bool = False) -> Figure:
    """Draw accuracy against the measured active fraction: the Pareto front, and where the cliff was published to be.

    A point is on the front if no sparser point is as accurate.

    Args:
        series: x is the active fraction in [0, 1], y the accuracy.
        xlabel: what x is.
        ylabel: what y is, with its unit.
        connected: whether lines join the points of a series, to be compared at equal x, instead of the front.

    Returns:
        A figure with one panel.
    """
    panels = panels_apart({ylabel: series})
    fractions = [x for one in series for x in (*one.x, *(x for x, _ in one.published))]
    points = [] if connected else [(x, y) for one in series for x, y in zip(one.x, one.y, strict=True)]
    front = pareto_front(points)
    with sheet(1.05 + 1.7 * len(panels)) as figure:
        grid = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        for axes, (label, shown) in zip(grid, panels, strict=True):
            draw_points(axes, shown, connected=connected)
            axes.set_ylabel(label)
        wide_axis(grid[0], "x", fractions)
        left = grid[0].get_xlim()[0]
        extra: list[Artist] = []
        if len(front) > 1:
            grid[-1].plot(*zip(*front, strict=True), color=GREY, linewidth=0.9, zorder=1)
            extra.append(Line2D([], [], color=GREY, linewidth=0.9, label="Pareto front"))
        if left < CLIFF:
            for axes in grid:
                axes.axvspan(left, CLIFF, color="0.93", zorder=0)
            grid[0].set_xlim(left=left)
            extra.append(Patch(facecolor="0.93", edgecolor="0.8", linewidth=0.5, label="beyond the cliff"))
        grid[-1].set_xlabel(xlabel)
        figure.align_ylabels()
        series_legend(figure, series, extra)
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no sparser point equals in accuracy, by rising active fraction.

    Args:
        points: active fraction and accuracy.
    """
    front: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def l0_over_target(series: Sequence[Series], ylabel: str, band: tuple[float, float] | None = None) -> Figure:
    """Draw the measured active fraction against the one that the target has; on the diagonal the target is obeyed.

    Args:
        series: x is the target's active fraction, y the measured one.
        ylabel: what y is.
        band: how far y may be from x, and as what share of x; the larger of the two counts, and is drawn as a band.

    Returns:
        A figure with one panel.
    """
    with sheet(2.75) as figure:
        axes = figure.subplots()
        draw_points(axes, series)
        values = [v for one in series for v in (*one.x, *one.y, *(v for pair in one.published for v in pair))]
        for axis in ("x", "y"):
            wide_axis(axes, axis, values)
        ends = (min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1]))
        colour = PREDICTED if len(series) == 1 else GREY  # vermilion is near to the colours of series
        axes.plot(ends, ends, color=colour, linestyle="--", linewidth=1.1, zorder=1)
        extra: list[Artist] = [predicted_handle("as asked", colour)]
        if band is not None:
            x = np.geomspace(*ends, 200) if axes.get_xscale() == "log" else np.linspace(*ends, 200)
            tolerance = np.maximum(band[0], band[1] * x)
            look: dict[str, Any] = {"color": colour, "alpha": 0.15, "linewidth": 0}
            axes.fill_between(x, x - tolerance, x + tolerance, zorder=0, **look)
            extra.append(Patch(label="tolerance", **look))
        axes.set(xlim=ends, ylim=ends, xlabel="active fraction ℓ0 of the target", ylabel=ylabel)
        series_legend(figure, series, extra)
    return figure


def curve(panels: Mapping[str, Sequence[Series]], xlabel: str, *, log_x: bool = False) -> Figure:
    """Draw metrics over a value that varies, one panel below another.

    Args:
        panels: series by what y is, with its unit; all panels share x.
        xlabel: what x is.
        log_x: whether the axis of x is logarithmic; it is not if some x is no positive number.

    Returns:
        A figure with one panel for each metric.
    """
    everything = [one for series in panels.values() for one in series]
    places = [x for one in everything for x in (*one.x, *(x for x, _ in one.published))]
    position = _positions(places)
    rows = panels_apart({name: [_placed(one, position) for one in series] for name, series in panels.items()})
    with sheet(2.5 if len(rows) == 1 else 0.6 + 1.6 * len(rows)) as figure:
        grid = figure.subplots(len(rows), sharex=True, squeeze=False)[:, 0]
        for axes, (label, shown) in zip(grid, rows, strict=True):
            draw_points(axes, shown)
            axes.set_ylabel(label)
        if position is not None:
            category_axis(grid[-1], position)
        elif log_x and min(places) > 0:
            log_axis(grid[-1], "x", places, at_points=True)
        grid[-1].set_xlabel(xlabel)
        figure.align_ylabels()
        most = max(panels.values(), key=len)
        colour = PREDICTED if len(most) == 1 else GREY
        theory = [predicted_handle("predicted", colour)] if any(is_known(one.theory) for one in everything) else []
        series_legend(figure, most, theory, published=any(one.published for one in everything))
    return figure


def convergence(series: Sequence[Series], ylabel: str) -> Figure:
    """Draw a metric over training: the mean over seeds, and its 95 % interval as a band.

    Args:
        series: x is the number of finished epochs, y the mean.
        ylabel: what y is, with its unit.

    Returns:
        A figure with one panel.
    """
    with sheet(2.5) as figure:
        axes = figure.subplots()
        for one, (colour, marker) in zip(series, looks(len(series)), strict=True):
            x, y, half = (array(values) for values in (one.x, one.y, one.half))
            axes.fill_between(x, y - half, y + half, color=colour, alpha=0.2, linewidth=0)
            axes.plot(x, y, color=colour, marker=marker if len(x) <= 25 else None, markersize=3)
        epochs = [x for one in series for x in one.x]
        if max(epochs, default=0) <= 10:
            axes.set_xticks(sorted(set(epochs)))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel=ylabel)
        series_legend(figure, series, markers=False)
    return figure


def bars(panels: Mapping[str, Sequence[Bar]]) -> Figure:
    """Draw a metric of each label as a bar from zero, with its interval and what is predicted and published beside.

    Args:
        panels: bars by what their length is, with its unit; a panel each, one below another.

    Returns:
        A figure with one panel for each metric.
    """
    lines = {bar.label: textwrap.fill(bar.label, _WRAP) for panel in panels.values() for bar in panel}
    heights = [sum(0.16 + 0.12 * (lines[bar.label].count("\n") + 1) for bar in panel) for panel in panels.values()]
    with sheet(0.45 + sum(heights) + 0.4 * len(panels)) as figure:
        grid = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
        for axes, (xlabel, panel) in zip(grid, panels.items(), strict=True):
            rows = np.arange(len(panel))
            axes.barh(rows, [bar.value for bar in panel], height=0.62, color=MEASURED, alpha=0.75)
            draw_whiskers(axes, [bar.value for bar in panel], rows, x_half=[bar.half for bar in panel], colour="0.2")
            for row, bar in zip(rows, panel, strict=True):
                if bar.theory is not None:
                    axes.plot([bar.theory] * 2, [row - 0.4, row + 0.4], color=PREDICTED, linewidth=1.6)
                if bar.published is not None:
                    axes.plot(bar.published, row, **hollow(GREY))
                place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
                axes.annotate(f"{bar.value:#.3g}".rstrip("."), (1.0, row), (4, 0), fontsize=6.5, **place)
            axes.set_yticks(rows, [lines[bar.label] for bar in panel])
            axes.tick_params(axis="y", length=0)
            axes.set(xlabel=xlabel, ylim=(len(panel) - 0.4, -0.6))
            axes.grid(visible=False, axis="y")
        everything = [bar for panel in panels.values() for bar in panel]
        beside: list[Artist] = [published_handle()] if any(bar.published is not None for bar in everything) else []
        beside += (
            [predicted_handle("predicted", linestyle="-")] if any(bar.theory is not None for bar in everything) else []
        )
        if beside:
            place_legend(figure, [Patch(color=MEASURED, alpha=0.75, label="measured"), *beside])
    return figure


def entropy_over_sparsity(
    series: Sequence[Series], curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], ylabel: str
) -> Figure:
    """Draw the entropy of a feature against the active fraction, beside what rectified generalised Gaussians have.

    Args:
        series: x is the active fraction, y the entropy per dimension.
        curves: active fraction and entropy of the target's family, by its name, such as ``p=2``.
        ylabel: what y is, with its unit.

    Returns:
        A figure with one panel.
    """
    with sheet(2.6) as figure:
        axes = figure.subplots()
        extra = []
        for (name, (x, y)), linestyle in zip(curves.items(), ("--", ":", "-.", "-") * len(curves), strict=False):
            axes.plot(x, y, color=PREDICTED, linestyle=linestyle, linewidth=1.1, zorder=1)
            extra.append(predicted_handle(f"RGN, {name}", linestyle=linestyle))
        draw_points(axes, series, connected=False)
        axes.set(xlabel="active fraction ℓ0", ylabel=ylabel, xlim=(0, 1.02))
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        series_legend(figure, series, extra)
    return figure


def _positions(places: Sequence[Any]) -> dict[Any, int] | None:
    """Number the categories in order of appearance; None for numbers, which have a place of their own."""
    if all(isinstance(place, int | float) and not isinstance(place, bool) for place in places):
        return None
    return {place: index for index, place in enumerate(dict.fromkeys(places))}


def _placed(series: Series, position: Mapping[Any, int] | None) -> Series:
    if position is None:
        return series
    published = [(position[x], y) for x, y in series.published]
    return replace(series, x=[position[x] for x in series.x], published=published)
