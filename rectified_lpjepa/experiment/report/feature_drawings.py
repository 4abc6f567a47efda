"""Figures of single models, from the details that their evaluations wrote.

Of each setting the first seed with the evaluation is drawn, so that a figure shows one model and not a mean of several.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rectified_lpjepa.experiment.presentation import Figure
from rectified_lpjepa.experiment.report import feature_figures
from rectified_lpjepa.experiment.report.drawing import Drawing, NothingToDrawError
from rectified_lpjepa.experiment.report.feature_figures import Panel, Unit
from rectified_lpjepa.experiment.report.results import Results

_SETTINGS = 4  # drawn at most for one entry; ``where`` chooses others
_UNITS = 4
_FEATURES = ("encoder", "projector", "preactivations")


def spectrum(results: Results, figure: Figure) -> list[Drawing]:
    """Draw the eigenvalues of the features' covariance, as ``rank`` found them."""
    feature = _feature(figure)
    drawings = []
    for content, name in _of_each_setting(results, "rank"):
        found = content["details"][feature]
        values, (low, high) = found["eigenvalues"], found["marchenko_pastur"]
        if max(values) <= 0:
            continue  # all features are constant
        predicted = found.get("eigenvalues_target", ())
        # The edges are v (1 ∓ r)² for the variance v of the target.
        ratio = math.sqrt(len(values) / (content["protocol"]["samples"] - 1))
        variance = high / (1 + ratio) ** 2 if predicted else None
        drawings.append(
            Drawing(
                feature_figures.spectrum(values, (low, high), predicted, variance),
                f"Covariance spectrum of the {feature}, {name}",
                f"{len(values)} eigenvalues from {max(values):.3g} down to {min(values):.3g}"
                + ("." if variance is None else f"; the target's variance is {variance:.3g}."),
                "Zero RDMReg along all eigenvectors would make every eigenvalue the target's variance.",
            )
        )
    return _some(drawings, f"every eigenvalue of the {feature}'s covariance is zero: the features are constant")


def qq(results: Results, _: Figure) -> list[Drawing]:
    """Draw quantiles before the rectifier against fitted generalised Gaussians, as ``distribution`` found them."""
    drawings = []
    for content, name in _of_each_setting(results, "distribution"):
        found = content["details"]["preactivations"]
        if not found["qq"]:
            continue  # all features are constant
        units = [
            Unit(f"unit {unit['unit']}", unit["fitted"], unit["measured"], found["fits"]["p"][unit["unit"]], unit["ks"])
            for unit in _spread(found["qq"], _UNITS)
        ]
        drawings.append(
            Drawing(
                feature_figures.qq(units),
                f"Before the rectifier against the fitted generalised Gaussian, {name}",
                f"{len(units)} units from the best to the worst fit, with Kolmogorov-Smirnov statistics from "
                f"{units[0].ks:.3f} to {units[-1].ks:.3f}.",
                "Where the points follow the dashed diagonal the unit is generalised Gaussian; p̂ is its fitted shape.",
            )
        )
    return _some(drawings, "`distribution` found all features before the rectifier to be constant")


def activity_per_class(results: Results, figure: Figure) -> list[Drawing]:
    """Draw the active fraction of each class, as ``sparsity`` found it."""
    feature = _feature(figure)
    drawings = []
    for content, name in _of_each_setting(results, "sparsity"):
        each = content["details"][feature].get("class_l0", ())
        l0 = {str(label): value for label, value in enumerate(each) if value is not None}
        if not l0:
            continue  # the data have no classes
        densest, sparsest = max(l0, key=l0.__getitem__), min(l0, key=l0.__getitem__)
        drawings.append(
            Drawing(
                feature_figures.activity_per_class(
                    list(l0.values()), list(l0), content["metrics"].get(f"{feature}/sparsity/l0_target")
                ),
                f"Sparsity of each class, {feature}, {name}",
                f"Active fraction of {len(l0)} classes, from {l0[densest]:.3f} (class {densest}) down to "
                f"{l0[sparsest]:.3f} (class {sparsest}).",
            )
        )
    return _some(drawings, "`sparsity` was measured on data without classes")


def score_histogram(results: Results, figure: Figure) -> list[Drawing]:
    """Draw how a score is distributed over usual and unusual samples, as ``ood`` found it.

    ``metric`` names features, score and set, as in ``ood/projector/l0_vs_noise/auroc``; without it all sets are drawn
    for ℓ0 of the projector's features.
    """
    feature, score, only = _feature(figure), "l0", ""
    if figure.metric is not None:
        score, _, only = figure.metric.split("/")[-2].partition("_vs_")
    drawings = []
    for content, name in _of_each_setting(results, "ood"):
        counts = content["details"]["histograms"].get(feature, {}).get(score, {})
        sets = [each for each in counts if each not in ("edges", "test") and only in ("", each)]
        if not sets:
            continue  # not measured, such as errors on data without labels
        panels = []
        for each in sets:
            # Errors are among the test samples, and what they are told from is the rest of these.
            among = counts[each] if each == "errors" else [0] * len(counts[each])
            usual = [number - part for number, part in zip(counts["test"], among, strict=True)]
            auroc = content["metrics"][f"{feature}/{score}_vs_{each}/auroc"]
            panels.append(Panel(each, usual, counts[each], math.nan if auroc is None else auroc))
        drawings.append(
            Drawing(
                feature_figures.score_histogram(counts["edges"], panels, f"{score} score (higher: more unusual)"),
                f"The score {score} of the {feature} as a signal, {name}",
                "AUROC: " + ", ".join(f"{panel.name} {panel.auroc:.3f}" for panel in panels) + ".",
                "Usual are the test samples. Errors are those that a linear probe gets wrong, against the others.",
            )
        )
    return _some(drawings, f"`ood` has not measured {score} of the {feature}" + (f" against {only}" if only else ""))


def _feature(figure: Figure) -> str:
    """Return the features that a figure is about, as its metric's name says; the projector's without one."""
    return next((part for part in (figure.metric or "").split("/") if part in _FEATURES), "projector")


def _some(drawings: list[Drawing], reason: str) -> list[Drawing]:
    if not drawings:
        raise NothingToDrawError(reason)
    return drawings


def _spread(values: Sequence[Any], limit: int) -> list[Any]:
    """Take some of the values, evenly from the first to the last."""
    if len(values) <= limit:
        return list(values)
    return [values[round(index * (len(values) - 1) / (limit - 1))] for index in range(limit)]


def _of_each_setting(results: Results, evaluation: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Give what an evaluation wrote of a run of each of the first settings, and what the run is called."""
    found = []
    for group in results.groups:
        contents = ((results.evaluation(point, evaluation), point) for point in group.points)
        found += [(content, f"{point.label}, seed {point.seed}") for content, point in contents if content][:1]
    if not found:
        raise NothingToDrawError(f"no run has been evaluated by `{evaluation}`")
    yield from found[:_SETTINGS]
