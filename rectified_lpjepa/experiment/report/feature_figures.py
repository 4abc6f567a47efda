"""Figures of the features of one model, from what evaluations of it found: pure functions from numbers to a figure.

The style is that of :mod:`rectified_lpjepa.experiment.report.figures`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rectified_lpjepa.experiment.report.sheets import log_axis, sheet
from rectified_lpjepa.plots import MEASURED, ORANGE, PREDICTED

_NAMED = 12  # classes; more of them have no room for their names
_FLOOR = 1e-7  # of the largest eigenvalue; smaller ones are rounding, and would squeeze the others


@dataclass(frozen=True)
class Unit:
    """The quantiles of one feature before the rectifier.

    Attributes:
        label: of the unit.
        fitted: quantiles of the generalised Gaussian that was fitted to it.
        measured: quantiles of the feature at the same probabilities.
        p: shape of the fitted law.
        ks: Kolmogorov-Smirnov statistic of the fit.
    """

    label: str
    fitted: Sequence[float]
    measured: Sequence[float]
    p: float
    ks: float


@dataclass(frozen=True)
class Panel:
    """A set of unusual samples.

    Attributes:
        name: of the set.
        usual: number of usual samples in each bin.
        unusual: number of unusual samples in each bin.
        auroc: area under the ROC curve, in [0, 1]; NaN where it is not defined.
    """

    name: str
    usual: Sequence[int]
    unusual: Sequence[int]
    auroc: float


def spectrum(
    eigenvalues: Sequence[float],
    edges: tuple[float, float],
    predicted: Sequence[float] = (),
    variance: float | None = None,
) -> Figure:
    """Draw the eigenvalues of the features' covariance, beside those of features that are as the target asks.

    Independent features of variance v have the covariance v·I, but the covariance of N samples of them has its
    eigenvalues between the edges of Marchenko and Pastur.

    Args:
        eigenvalues: of the covariance, falling; D of them, in squared units of the features.
        edges: of Marchenko and Pastur.
        predicted: eigenvalues of a sample of the target as large as that of the features; none without a target.
        variance: v of the target; None without one.

    Returns:
        A figure with one panel.
    """
    with sheet(2.5) as figure:
        axes = figure.subplots()
        marker = "o" if len(eigenvalues) <= 40 else None
        axes.plot(*_spectrum(eigenvalues), color=MEASURED, marker=marker, markersize=3, label="features")
        if predicted:
            axes.plot(*_spectrum(predicted), color=PREDICTED, linestyle="--", label="target, as many samples")
        if variance is not None:
            axes.axhline(variance, color=PREDICTED, linestyle=":", linewidth=1.1, label=f"target, {variance:.3g}")
        axes.axhspan(*edges, color="0.5", alpha=0.15, linewidth=0, label="Marchenko-Pastur")
        axes.set(xlabel="index of the eigenvalue", ylabel="eigenvalue of the covariance")
        values = np.concatenate([_spectrum(part)[1] for part in (eigenvalues, predicted) if len(part)])
        log_axis(axes, "y", values[~np.isnan(values)].tolist())
        axes.set_xlim(1, max(len(eigenvalues), 2))
        figure.legend(loc="outside upper center", ncols=2, handlelength=1.6)
    return figure


def _spectrum(eigenvalues: Sequence[float]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Number the eigenvalues from 1, and leave out those that are zero but for rounding."""
    values = np.asarray(eigenvalues, dtype=float)
    return np.arange(1, len(values) + 1), np.where(values > _FLOOR * values.max(), values, np.nan)


def qq(units: Sequence[Unit]) -> Figure:
    """Draw quantiles of features before the rectifier against those of the fitted generalised Gaussian.

    On the diagonal the fit is right.

    Args:
        units: one or more.

    Returns:
        A figure with a panel for each unit.
    """
    columns = min(len(units), 2)
    rows = math.ceil(len(units) / columns)
    with sheet(0.35 + 1.45 * rows) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, unit in zip(grid, units, strict=False):
            ends = [min(*unit.fitted, *unit.measured), max(*unit.fitted, *unit.measured)]
            axes.plot(ends, ends, color=PREDICTED, linestyle="--", linewidth=1.0)
            axes.plot(unit.fitted, unit.measured, color=MEASURED, marker="o", markersize=2, linestyle="none")
            axes.set_title(f"{unit.label}: p̂ {unit.p:.2f}, KS {unit.ks:.3f}", loc="left", fontsize=7)
            axes.set_aspect("equal", adjustable="datalim")
            axes.locator_params(nbins=4)
        for axes in grid[len(units) :]:
            axes.remove()
        figure.supxlabel("quantile of the fitted law", fontsize=8)
        figure.supylabel("quantile of the feature", fontsize=8)
    return figure


def activity_per_class(l0: Sequence[float], names: Sequence[str], target: float | None = None) -> Figure:
    """Draw the active fraction of the samples of each class, from the densest class to the sparsest.

    Args:
        l0: active fraction of each class, in [0, 1].
        names: of the classes.
        target: active fraction of the target; None without one.

    Returns:
        A figure with one panel; up to twelve classes are named, of more the first and the last.
    """
    order = np.argsort(-np.asarray(l0, dtype=float), kind="stable")
    values = np.asarray(l0, dtype=float)[order]
    sorted_names = [textwrap.shorten(str(names[index]), 16, placeholder="…") for index in order]
    with sheet(2.4) as figure:
        axes = figure.subplots()
        places = np.arange(len(values))
        gap = 0.25 if len(values) <= 3 * _NAMED else 0.0
        axes.bar(places, values, width=1 - gap, color=MEASURED, alpha=0.75, label="samples of a class")
        axes.axhline(values.mean(), color="0.2", linewidth=1.0, label=f"mean, {values.mean():.3f}")
        if target is not None:
            axes.axhline(target, color=PREDICTED, linestyle="--", linewidth=1.1, label=f"target, {target:.3f}")
        if len(values) <= _NAMED:
            axes.set_xticks(places, sorted_names)
            axes.set_xlabel("class")
            if max(map(len, sorted_names)) > 3:
                axes.tick_params(axis="x", labelrotation=40)
                for label in axes.get_xticklabels():
                    label.set(ha="right", rotation_mode="anchor")
        else:
            axes.set_xticks([])
            axes.set_xlabel(f"{len(values)} classes, from {sorted_names[0]} to {sorted_names[-1]}")
        axes.tick_params(axis="x", length=0)
        axes.set(ylabel="active fraction ℓ0", xlim=(-0.7, len(values) - 0.3))
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside upper center", ncols=2, handlelength=1.6)
    return figure


def score_histogram(edges: Sequence[float], panels: Sequence[Panel], xlabel: str) -> Figure:
    """Draw how a score is distributed over usual and over unusual samples.

    Args:
        edges: of the K bins, K + 1 of them, rising, in units of the score.
        panels: one for each set of unusual samples.
        xlabel: name of the score, with its unit.

    Returns:
        A figure with the panels one below another.
    """
    with sheet(0.75 + 1.15 * len(panels)) as figure:
        grid = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        widths = np.diff(np.asarray(edges, dtype=float))
        for axes, panel in zip(grid, panels, strict=True):
            for counts, name, colour in ((panel.usual, "usual", MEASURED), (panel.unusual, "unusual", ORANGE)):
                number = np.asarray(counts, dtype=float)
                density = number / (max(number.sum(), 1.0) * widths)
                axes.stairs(density, edges, fill=True, color=colour, alpha=0.3)
                axes.stairs(density, edges, color=colour, linewidth=1.2, label=name)
            axes.set(ylabel="density", ylim=(0, None))
            axes.set_title(f"{textwrap.shorten(panel.name, 30, placeholder='…')}: AUROC {panel.auroc:.3f}", loc="left")
        grid[-1].set_xlabel(xlabel)
        figure.align_ylabels()
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, handlelength=1.6)
    return figure
