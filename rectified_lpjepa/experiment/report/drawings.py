"""From what an experiment file asks for, ``{kind: curve, metric: …, x: …}``, to figures of what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from rectified_lpjepa.experiment.groups import Group, Point
from rectified_lpjepa.experiment.presentation import Figure, is_beside
from rectified_lpjepa.experiment.report import figures
from rectified_lpjepa.experiment.report.drawing import Drawing, NothingToDrawError
from rectified_lpjepa.experiment.report.feature_drawings import activity_per_class, qq, score_histogram, spectrum
from rectified_lpjepa.experiment.report.figures import Bar
from rectified_lpjepa.experiment.report.marks import Series
from rectified_lpjepa.experiment.report.quantities import Quantity, quantity
from rectified_lpjepa.experiment.report.results import Results, mean_of
from rectified_lpjepa.experiment.report.selection import bundles, over_epochs, over_metric, over_value, select
from rectified_lpjepa.functional import generalized_gaussian
from rectified_lpjepa.sweep.manifest import shown

_ACCURACY, _L0 = "val/probe_encoder/top1", "val/sparsity/l0"
_ENTROPY = "independence/projector/independence/marginal_entropy"
_BARS_OF_A_PAGE = 36
_OWN_L0 = Quantity("renyi_dimension/D", "active fraction ℓ0", "")


def draw(results: Results, figure: Figure) -> list[Drawing]:
    """Draw the figures that an experiment file asks for by one entry.

    Args:
        results: what was found.
        figure: what to draw.

    Raises:
        NothingToDrawError: the results have nothing to show.
    """
    chosen = select(results, figure.where or {})
    if not chosen.points:
        raise NothingToDrawError("no point has been run" + (" of those asked for" if results.points else ""))
    drawings = KINDS[figure.kind](chosen, figure)
    if figure.title is None:
        return drawings
    if len(drawings) == 1:
        return [replace(drawings[0], title=figure.title)]
    return [replace(drawing, title=f"{figure.title}: {drawing.title}") for drawing in drawings]


def accuracy_over_l0(results: Results, figure: Figure) -> list[Drawing]:
    """Draw accuracies against the measured active fraction, which is ``x``; one figure for each metric.

    Lines join the points of series that the file names, where they differ in numbers alone, to be compared at equal
    ``x``; without such series the Pareto front is drawn.
    """
    drawings = []
    connected = isinstance(figure.series, dict)
    note = "Lines join the settings of a series that differ in numbers alone: compare series at equal ℓ0."
    if not connected:
        note = "A point is on the Pareto front if no sparser point is as accurate."
    x = quantity(figure.x or _L0, results.columns)
    for y in _metrics(results, figure, _ACCURACY):
        found = _over_metric(results, figure, y, x)
        best, at = max((value, at) for one in found for at, value in zip(one.x, one.y, strict=True))
        fractions = [at for one in found for at in one.x]
        drawings.append(
            Drawing(
                figures.accuracy_over_l0(found, f"measured {x.axis}", y.axis, connected=connected),
                f"{_capital(y.label)} against sparsity",
                f"{_count(found)} with ℓ0 between {min(fractions):.3f} and {max(fractions):.3f}. The highest {y.label} "
                f"is {best:.4g}{y.unit}, at ℓ0 {at:.3f}.",
                f"{note} The paper reports that accuracy falls off a cliff past about 95 % zeros.",
            )
        )
    return drawings


def l0_over_target(results: Results, figure: Figure) -> list[Drawing]:
    """Draw measured active fractions against the target's; one figure for each metric."""
    drawings = []
    for y in _metrics(results, figure, _L0):
        x = quantity(figure.x or f"{y.metric}_target", results.columns)
        found = _over_metric(results, figure, y, x)
        band = None if figure.within is None else (figure.within, figure.relative or 0.0)
        drawings.append(
            Drawing(
                figures.l0_over_target(found, f"measured {y.axis}", band),
                "Sparsity obtained against sparsity asked for",
                f"{_count(found)}. {_gaps(found, band)}",
                "On the dashed diagonal the features are as sparse as the target; above it they are denser.",
            )
        )
    return drawings


def curve(results: Results, figure: Figure) -> list[Drawing]:
    """Draw metrics over a value that varies, or over another metric; a panel for each metric.

    Without ``series`` each setting of all else that varies is a line of its own.
    """
    x = figure.x
    if x is None:
        raise NothingToDrawError("a curve needs `x`, the short name of a value that varies")
    metrics = _metrics(results, figure)
    is_value = x in results.varied
    split = bundles(results, _series(figure, [name for name in results.varied if is_value and name != x]))
    over = quantity(x, results.columns)
    panels = {
        y.axis: [
            made
            for bundle in split
            if (made := over_value(results, bundle, y, x) if is_value else over_metric(results, bundle, y, over))
        ]
        for y in metrics
    }
    panels = {name: series for name, series in panels.items() if series}
    if not panels:
        raise NothingToDrawError(f"no point has {_enumerate([y.metric for y in metrics], 'or')} and {x}")
    name_of_x = figure.x_label or (x if is_value else over.label)
    return [
        Drawing(
            figures.curve(panels, figure.x_label or (x if is_value else over.axis), log_x=figure.log_x),
            f"{_capital(_enumerate([y.label for y in metrics]))} over {name_of_x}",
            " ".join(f"{_capital(name)}: {_ends(found, name_of_x)}." for name, found in panels.items()),
        )
    ]


def convergence(results: Results, figure: Figure) -> list[Drawing]:
    """Draw columns of the runs' ``csv/metrics.csv`` over training; one figure for each metric."""
    drawings = []
    for y in _metrics(results, figure, _ACCURACY):
        split = bundles(results, _series(figure, results.varied))
        found = [made for bundle in split if (made := over_epochs(results, bundle, y))]
        if not found:
            raise NothingToDrawError(f"no run has logged {y.metric}")
        drawings.append(
            Drawing(
                figures.convergence(found, y.axis),
                f"{_capital(y.label)} over training",
                "; ".join(f"{one.label or y.label} ends at {one.y[-1]:.4g}{y.unit}" for one in found) + ".",
                "Mean over seeds; the band is the 95 % interval.",
            )
        )
    return drawings


def bars(results: Results, figure: Figure) -> list[Drawing]:
    """Draw metrics of each setting as bars, a panel for each metric; ``x`` names the value that labels a bar.

    More bars than a page holds are told apart by metric, a figure each.
    """
    metrics = _metrics(results, figure)
    rows = {y: [bar for group in results.groups if (bar := _bar(results, group, y, figure.x))] for y in metrics}
    rows = {y: panel for y, panel in rows.items() if panel}
    if not rows:
        raise NothingToDrawError(f"no point has {_enumerate([y.metric for y in metrics], 'or')}")
    is_tall = sum(map(len, rows.values())) > _BARS_OF_A_PAGE
    drawings = []
    for shown_together in [{y: panel} for y, panel in rows.items()] if is_tall else [rows]:
        panels = {y.axis: panel for y, panel in shown_together.items()}
        title = _capital(_enumerate([y.label for y in shown_together]))
        alt = (f"{name}: {', '.join(f'{b.label} {b.value:.4g}' for b in panel)}." for name, panel in panels.items())
        drawings.append(Drawing(figures.bars(panels), title, _capital(" ".join(alt))))
    return drawings


def entropy_over_sparsity(results: Results, figure: Figure) -> list[Drawing]:
    """Draw the entropy that ``independence`` found, per dimension, against the active fraction of the same features.

    Beside them is the entropy of rectified generalised Gaussians of the shapes p that the runs' targets have.
    """
    name = figure.metric or _ENTROPY
    y, x = Quantity(f"{name}/D", f"{name.rpartition('/')[2].replace('_', ' ')} per dimension", "nats"), _OWN_L0
    with_ratios = replace(results, points=[_per_dimension(results, point, name, y.metric) for point in results.points])
    found = _over_metric(with_ratios, figure, y, x)
    shapes = {p for group in results.groups if (p := results.summary(group.points[0]).get("p")) is not None}
    curves = {f"p={p:g}": _rgn_entropy(p) for p in sorted(shapes, reverse=True)}
    return [
        Drawing(
            figures.entropy_over_sparsity(found, curves, y.axis),
            f"{_capital(y.label)} against sparsity",
            f"{_count(found)}. {_capital(y.label)}: {_range(found)} nats.",
            "Lines: entropy per dimension of a rectified generalised Gaussian, with σ_GN, as μ varies.",
        )
    ]


def _per_dimension(results: Results, point: Point, entropy: str, ratio: str) -> Point:
    """Give a point the ratio of an entropy to the number of features, and of the mean number of active ones to it."""
    content = results.evaluation(point, "independence")
    renyi = point.metrics.get(f"{entropy.rpartition('/')[0]}/renyi_dimension")
    if content is None or entropy not in point.metrics or renyi is None:
        return point
    dim = len(content["details"][entropy.split("/")[1]]["marginal_entropies"])
    return replace(point, metrics={**point.metrics, ratio: point.metrics[entropy] / dim, _OWN_L0.metric: renyi / dim})


KINDS: Mapping[str, Callable[[Results, Figure], list[Drawing]]] = {
    function.__name__: function
    for function in (
        accuracy_over_l0,
        l0_over_target,
        curve,
        convergence,
        bars,
        spectrum,
        qq,
        activity_per_class,
        entropy_over_sparsity,
        score_histogram,
    )
}


def _metrics(results: Results, figure: Figure, default: str | None = None) -> list[Quantity]:
    names = figure.metrics or [name for name in (figure.metric or default,) if name]
    if not names:
        raise NothingToDrawError(f"the figure {figure.kind} needs `metric`, the name of what to draw")
    return [quantity(name, results.columns) for name in names]


def _series(figure: Figure, default: Sequence[str]) -> Sequence[str] | Mapping[str, Mapping[str, Any]]:
    if figure.series is None:
        return default
    return [figure.series] if isinstance(figure.series, str) else figure.series


def _over_metric(results: Results, figure: Figure, y: Quantity, x: Quantity) -> list[Series]:
    split = bundles(results, _series(figure, []))
    found = [made for bundle in split if (made := over_metric(results, bundle, y, x))]
    if not found:
        raise NothingToDrawError(f"no point has both {y.metric} and {x.metric}")
    return found


def _bar(results: Results, group: Group, y: Quantity, x: str | None) -> Bar | None:
    measured, theory = mean_of(group, y.metric), mean_of(group, f"{y.metric}_target")
    if measured is None:
        return None
    beside = next((one for one in results.published if y.metric in one.metrics and is_beside(one, group)), None)
    return Bar(
        group.label if x is None else f"{x}={shown(group.values.get(x))}",
        measured.mean * y.factor,
        None if measured.half is None else measured.half * y.factor,
        None if theory is None else theory.mean * y.factor,
        None if beside is None else beside.metrics[y.metric] * y.factor,
    )


def _rgn_entropy(p: float) -> tuple[list[float], list[float]]:
    mu = torch.linspace(-6, 6, 241, dtype=torch.float64)
    sigma = generalized_gaussian.sigma_gn(p).double()
    return (
        generalized_gaussian.active_fraction(p, mu, sigma).tolist(),
        generalized_gaussian.rectified_entropy(p, mu, sigma).tolist(),
    )


def _count(found: Sequence[Series]) -> str:
    points = sum(len(one.x) for one in found)
    beside = sum(len(one.published) for one in found)
    return f"{points} settings" + (f" and {beside} published ones" if beside else "")


def _gaps(found: Sequence[Series], band: tuple[float, float] | None) -> str:
    """Say of each series how far it is from the diagonal, and how many of its settings are in the band."""
    said = []
    for one in found:
        gaps = [value - at for at, value in zip(one.x, one.y, strict=True)]
        text = f"{one.label}: measured" if one.label else "Measured"
        text += f" minus target lies between {min(gaps):+.3f} and {max(gaps):+.3f}"
        if band is not None:
            near = sum(abs(gap) <= max(band[0], band[1] * at) for gap, at in zip(gaps, one.x, strict=True))
            text += f", {near} of {len(gaps)} within the tolerance"
        said.append(f"{text}.")
    return " ".join(said)


def _range(found: Sequence[Series]) -> str:
    values = [value for one in found for value in one.y]
    return f"from {min(values):.4g} to {max(values):.4g}"


def _ends(found: Sequence[Series], x: str) -> str:
    return "; ".join(
        (f"{one.label}: " if one.label else "")
        + f"{one.y[0]:.4g} at {x}={one.x[0]}"
        + (f", {one.y[-1]:.4g} at {x}={one.x[-1]}" if len(one.x) > 1 else "")
        for one in found
    )


def _enumerate(labels: Sequence[str], word: str = "and") -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} {word} {labels[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
