"""Figures of a run: pure functions from numbers to :class:`matplotlib.figure.Figure`.

Every figure is drawn on a canvas of its own (no global state, no window), is one text column wide, and uses the colours
of Okabe and Ito, which stay apart under the common forms of colour blindness. Measured values are blue, what the target
law predicts is vermilion, in all of them.

Shape suffixes: N samples, D feature dimensions, K directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.functional.randomness import keyed_generator

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
MEASURED, PREDICTED = BLUE, VERMILION

WIDTH, HEIGHT = 3.4, 2.5  # inches: one column of a two-column page
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "figure.dpi": 200,
}
_TAIL = 1e-4  # histograms reach to this tail probability of the target
_DIRECTIONS = 4  # onto which features are projected
_PROJECTED_ROWS = 2048  # enough for a smooth quantile plot, and a target sample of that size is drawn quickly


def feature_histogram(z: Tensor, law: Law | None) -> Figure:
    """Draw the distribution of the features against the target's law, or alone if there is none.

    The law of a rectified feature is a mass at zero and a density on the positive numbers, so the two are drawn beside
    each other: the share of exact zeros, measured and predicted, and the density of the other values (it integrates to
    the active fraction, not to one). The second axis is logarithmic: there a Laplace density is a straight line and a
    Gaussian one a parabola.

    Args:
        z: features of shape (N, D), floating point, on the CPU.
        law: distribution of one coordinate of the target, or None.

    Returns:
        A figure with one panel, or two if the features or the law have a mass at zero.
    """
    values = _floats(z).ravel()
    zeros = {"features": float((values == 0).mean())}
    if law is not None:
        zeros["target"] = 1.0 - float(law.active_fraction)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        if any(zeros.values()):
            left, right = figure.subplots(1, 2, width_ratios=[1, 2.2])
            _zero_mass(left, zeros)
            _density(right, values, law, "$z$, non-zero")
        else:
            _density(figure.subplots(), values, law, "$z$")
        figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def projected_marginals(z: Tensor, law: Law, seed: int = 0) -> Figure:
    """Draw what the sliced Wasserstein distance sees: features and target along four random unit directions.

    Left, the two densities along the first direction. Right, sorted projections of the features against sorted
    projections of a target sample for every direction; on the diagonal the distributions agree, and RDMReg is the mean
    squared vertical distance to it.

    Args:
        z: features of shape (N, D), floating point, on the CPU; at most 2048 rows are used.
        law: distribution of one coordinate of the target.
        seed: seed of the directions and of the target sample; the same seed draws the same ones.

    Returns:
        A figure with two panels.
    """
    z_ND = z.detach()[:_PROJECTED_ROWS].double()
    rows, dim = z_ND.shape
    directions_KD = torch.randn(_DIRECTIONS, dim, generator=keyed_generator(seed, "figure directions")).double()
    directions_KD /= directions_KD.norm(dim=1, keepdim=True)
    target_ND = law.sample(torch.Size((rows, dim)), generator=keyed_generator(seed, "figure target")).double()
    z_KN = (directions_KD @ z_ND.T).sort(dim=1).values.numpy()
    target_KN = (directions_KD @ target_ND.T).sort(dim=1).values.numpy()

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        edges = np.linspace(min(z_KN[0, 0], target_KN[0, 0]), max(z_KN[0, -1], target_KN[0, -1]) + 1e-9, 41)
        left.hist(z_KN[0], edges, density=True, color=MEASURED, alpha=0.45, label="features")
        left.hist(target_KN[0], edges, density=True, histtype="step", color=PREDICTED, linewidth=1.2, label="target")
        left.set(xlabel="projection", ylabel="density")
        left.legend(loc="upper left", handlelength=1.0, borderaxespad=0.0)
        left.set_ylim(top=1.35 * left.get_ylim()[1])

        ends = [target_KN.min(), target_KN.max()]
        right.plot(ends, ends, color="0.35", linewidth=0.8, linestyle="--")
        for row, colour in zip(range(_DIRECTIONS), (BLUE, ORANGE, GREEN, PURPLE), strict=True):
            right.plot(target_KN[row], z_KN[row], color=colour, linewidth=1.1)
        right.set(xlabel="target quantile", ylabel="feature quantile")
        right.set_title(f"{_DIRECTIONS} directions", loc="left")
    return figure


def sparsity_over_time(epochs: Sequence[float], measured: Sequence[float], predicted: Sequence[float] | None) -> Figure:
    """Draw the measured active fraction over training beside the one that the target has; the legend says the last.

    Args:
        epochs: number of finished epochs at each point.
        measured: fraction of non-zero features, m_ℓ0, in [0, 1]; NaN where not validated.
        predicted: active fraction of the target at the same points; None if there is no target.

    Returns:
        A figure with one panel.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        _line(axes, epochs, measured, MEASURED, f"features ({_last(measured):.3f})")
        if predicted is not None:
            _line(axes, epochs, predicted, PREDICTED, f"target ({_last(predicted):.3f})", linestyle="--")
        axes.set(xlabel="epoch", ylabel=r"active fraction $m_{\ell 0}$", ylim=(0, 1.02))
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def loss_terms(epochs: Sequence[float], terms: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the loss and its unweighted terms over training, on a logarithmic axis.

    Args:
        epochs: number of finished epochs at each point.
        terms: name to mean over each epoch; points that are not positive cannot be shown and are left out.

    Returns:
        A figure with one panel.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        axes.set_yscale("log", nonpositive="mask")
        for (name, values), colour in zip(terms.items(), _cycle(len(terms)), strict=True):
            _line(axes, epochs, values, colour, name)
        axes.set(xlabel="epoch", ylabel="loss term, epoch mean")
        figure.legend(loc="outside upper center", ncols=3)
    return figure


def probe_accuracy(epochs: Sequence[float], history: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the top-1 accuracy of the linear probes over training.

    Args:
        epochs: number of finished epochs at each point.
        history: name such as ``"val/probe_encoder/top1"`` to fractions in [0, 1]. Solid lines are validation, dotted
            ones training (on augmented views, so these may lie lower).

    Returns:
        A figure with one panel.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        for probe, colour in (("encoder", BLUE), ("projector", ORANGE)):
            for split, linestyle in (("val", "-"), ("train", ":")):
                values = history.get(f"{split}/probe_{probe}/top1")
                if values is not None:
                    percent = [100.0 * value for value in values]
                    _line(axes, epochs, percent, colour, f"{probe}, {split}", linestyle=linestyle)
        axes.set(xlabel="epoch", ylabel="top-1 accuracy (%)")
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def _zero_mass(axes: Axes, zeros: Mapping[str, float]) -> None:
    bars = axes.bar(list(zeros), list(zeros.values()), width=0.7, color=[MEASURED, PREDICTED][: len(zeros)])
    axes.bar_label(bars, fmt="%.3f", padding=1, fontsize=6.5)
    axes.set(ylabel="share of exact zeros", ylim=(0, 1.1), yticks=[0, 0.5, 1], xlim=(-0.6, len(zeros) - 0.4))
    axes.tick_params(axis="x", labelrotation=40, length=0)
    axes.grid(visible=False, axis="x")


def _density(axes: Axes, values: NDArray[np.float64], law: Law | None, label: str) -> None:
    active = values[values != 0]
    low, high = _range(active, law)
    counts, edges = np.histogram(active, bins=60, range=(low, high))
    density = counts / (max(values.size, 1) * np.diff(edges))
    axes.stairs(density, edges, fill=True, color=MEASURED, alpha=0.45, label="features")
    top = float(density.max())
    if law is not None:
        # Midpoints of a finer grid: never exactly zero, where a rectified law has its mass and no density.
        grid = np.linspace(low, high, 601)
        grid = (grid[1:] + grid[:-1]) / 2
        predicted = law.log_prob(torch.from_numpy(grid)).exp().numpy()
        axes.plot(grid, predicted, color=PREDICTED, label="target")
        top = max(top, float(predicted.max()))
    if top > 0:
        axes.set_yscale("log")
        axes.set_ylim(top * _TAIL, top * 2)
    axes.set(xlabel=label, ylabel="density", xlim=(low, high))


def _range(active: NDArray[np.float64], law: Law | None) -> tuple[float, float]:
    low = high = 0.0
    if law is not None:
        low, high = law.icdf(torch.tensor([_TAIL, 1 - _TAIL], dtype=torch.float64)).tolist()
    if active.size:
        # Features far outside the target widen the picture, but a few outliers must not squeeze it.
        low = min(low, float(np.quantile(active, _TAIL)))
        high = max(high, float(np.quantile(active, 1 - _TAIL)))
    low = 0.0 if low >= 0 else low
    return low, high if high > low else low + 1.0


def _line(
    axes: Axes, epochs: Sequence[float], values: Sequence[float], colour: str, label: str, linestyle: str = "-"
) -> None:
    x, y = np.asarray(epochs, dtype=float), np.asarray(values, dtype=float)
    known = np.isfinite(y)  # epochs without validation leave NaN: the line runs on to the next point
    marker = "o" if known.sum() <= 25 else None  # a run of one epoch must show a point
    axes.plot(x[known], y[known], color=colour, label=label, linestyle=linestyle, marker=marker, markersize=2.5)
    if x.size and x.max() <= 10:
        axes.set_xticks(np.unique(x.round()))


def _last(values: Sequence[float]) -> float:
    return next((value for value in reversed(values) if np.isfinite(value)), float("nan"))


def _cycle(count: int) -> list[str]:
    colours = ["black", BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY]
    return [colours[index % len(colours)] for index in range(count)]


def _floats(values: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.detach().double().numpy()
    return array
