"""The sheet that every figure of a report is drawn on, and its axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from rectified_lpjepa.plots import STYLE, WIDTH

_WIDE = 8  # ratio of the largest to the smallest number from which an axis is logarithmic
_LEVEL = 40  # characters of names that there is room for beside each other


@contextmanager
def sheet(height: float) -> Iterator[Figure]:
    """Give a figure of one column's width, in the style of all figures.

    Args:
        height: inches.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure
        for axes in figure.axes:
            _end_at_possible_shares(axes)


def _end_at_possible_shares(axes: Axes) -> None:
    """End axes in percent a little beyond 0 and 100: an interval of few seeds may go on, and runs out of the panel."""
    for axis, limits, limit in (
        (axes.xaxis, axes.get_xlim(), axes.set_xlim),
        (axes.yaxis, axes.get_ylim(), axes.set_ylim),
    ):
        if "(%)" in axis.label.get_text() and axis.get_scale() == "linear":
            low, high = limits
            beyond = 0.02 * min(high - low, 100)
            limit(max(low, -beyond), min(high, 100 + beyond))


def category_axis(axes: Axes, position: Mapping[Any, int]) -> None:
    """Label the horizontal axis with names.

    Args:
        axes: of the panel.
        position: where each name stands.
    """
    names = [str(name) for name in position]
    is_long = sum(map(len, names)) > _LEVEL
    axes.set_xticks(range(len(names)), [name if is_long else textwrap.fill(name, 12) for name in names])
    axes.set_xlim(-0.4, len(names) - 0.6)
    if is_long:
        axes.tick_params(axis="x", labelrotation=35)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def wide_axis(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Make an axis logarithmic if its numbers are positive and span a wide range."""
    if values and min(values) > 0 and max(values) >= _WIDE * min(values):
        log_axis(axes, which, values)


def log_axis(axes: Axes, which: str, values: Sequence[float], *, at_points: bool = False) -> None:
    """Make an axis logarithmic and label it with plain numbers.

    Args:
        axes: of the panel.
        which: ``x`` or ``y``.
        values: what is drawn, positive.
        at_points: whether to label the numbers that are drawn, if they are well apart.
    """
    getattr(axes, f"set_{which}scale")("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_formatter(NullFormatter())
    distinct = sorted(set(values))
    decades = math.log10(distinct[-1] / distinct[0])
    if at_points and all(math.log10(b / a) > decades / 12 for a, b in pairwise(distinct)):
        axis.set_major_locator(FixedLocator(distinct))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.1 else (1.0,)))


def _plain(value: float, _: int) -> str:
    return f"{value:g}"
