"""What deserves attention in a run, with the measured value and what to try: how trainings of this kind fail.

Everything here is a pure function from numbers by name, as a run logs them and evaluations find them, to remarks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

DENSE = 0.9
"""Active fraction above which features are hardly sparse."""
CLIFF = 0.05
"""Active fraction below which accuracy falls steeply (arXiv 2602.01456: past about 95 % zeros)."""
FEW_DIRECTIONS = 100
"""Directions from which training is stable, whatever the number of features (arXiv 2602.01456, Fig. 13c)."""
EMULATED = ", emulated"
"""What is added to the name of a precision that the processor has no instructions for."""
_COLLAPSED = 0.1  # of the target's variance
_CONSTANT = 1e-3  # without a target: seventy times less than the least that experiment 07 shows
_WITHOUT_ZEROS = 0.999  # active fraction above which features without a target are those of no rectifier
_DEAD_UNITS = 0.05  # more than the target has
_L0_OFF = (0.02, 0.15)  # absolute, and relative to the target
_DIVERGED = 1.5  # the loss over its smallest value
_KS_FAR = 0.1  # largest distance of two distribution functions


@dataclass(frozen=True)
class Remark:
    """Something that deserves attention.

    Attributes:
        severity: ``warning`` where the result is spoilt or will be, ``note`` where it should be known.
        text: what it is.
        measured: the number behind it.
        advice: what to try.
    """

    severity: Literal["warning", "note"]
    text: str
    measured: str
    advice: str


def told(remarks: Sequence[Remark]) -> str:
    """Lay out remarks for the command line, two lines each; an empty text for none."""
    return "\n".join(
        f"{remark.severity}: {remark.text} ({remark.measured})\n  HINT: {remark.advice}" for remark in remarks
    )


def start_remarks(facts: Mapping[str, Any]) -> list[Remark]:
    """Judge what a run is asked for, before it starts.

    Args:
        facts: what the objective says of itself, as in a run's ``summary.json``: ``active fraction of the target`` (1
            for a target that is not rectified, of which nothing is said) and ``directions``, each if there is one; and
            the ``precision``, which ends in :data:`EMULATED` where the processor has no instructions for it.
    """
    return [
        *_target(facts.get("active fraction of the target")),
        *_directions(facts.get("directions")),
        *_precision(facts.get("precision", "")),
    ]


def _precision(precision: str) -> Iterator[Remark]:
    if precision.endswith(EMULATED):
        yield Remark(
            "note",
            "this processor has no instructions for bfloat16, and training is many times slower than in float32",
            precision,
            "`--trainer.precision 32-true`",
        )


def remarks(metrics: Mapping[str, float], losses: Sequence[float] = ()) -> list[Remark]:
    """Judge what was measured.

    Args:
        metrics: the last values of a run, such as ``val/sparsity/l0``, and those of its evaluations, such as
            ``distribution/…``; what is missing is not judged.
        losses: the training loss of each epoch.
    """
    return [
        *_divergence(losses),
        *_collapse(metrics),
        *_sparsity(metrics),
        *_dead_units(metrics),
        *_preactivations(metrics),
    ]


def _target(fraction: float | None) -> Iterator[Remark]:
    if fraction is None or fraction >= 1:
        return
    measured = f"active fraction of the target {fraction:.3f}"
    if fraction > DENSE:
        yield Remark(
            "warning",
            "the target is dense: hardly any feature will be zero",
            measured,
            "a lower `target.mu`, or `target.active_fraction` 0.5",
        )
    elif fraction < CLIFF:
        yield _beyond_the_cliff("the target lies", measured)


def _directions(number: int | None) -> Iterator[Remark]:
    if number is not None and number < FEW_DIRECTIONS:
        yield Remark(
            "warning",
            f"few directions: below about {FEW_DIRECTIONS} training converges slowly and less stably",
            f"{number} directions",
            "`directions.num` 1024 or more; the paper has 8192",
        )


def _divergence(losses: Sequence[float]) -> Iterator[Remark]:
    finite = [loss for loss in losses if math.isfinite(loss)]
    lower_rate = "half of `model.optimizer.lr`, or more `warmup_epochs`"
    if len(finite) < len(losses):
        number = next(index for index, loss in enumerate(losses, 1) if not math.isfinite(loss))
        measured = f"{losses[number - 1]} in epoch {number}"
        yield Remark("warning", "the training loss is not finite", measured, lower_rate)
    elif len(finite) > 1 and finite[-1] > _DIVERGED * min(finite) > 0:
        epoch = finite.index(min(finite)) + 1
        measured = f"{finite[-1]:.4g} in the last epoch, {min(finite):.4g} in epoch {epoch}"
        yield Remark("warning", "the training loss rises: the learning rate is too high", measured, lower_rate)


def _collapse(metrics: Mapping[str, float]) -> Iterator[Remark]:
    variance, target = _pair(metrics, "val/features/variance")
    if variance is None:
        return
    text = "the features have collapsed: they hardly differ between samples"
    if target is None:
        if variance < _CONSTANT:
            yield Remark("warning", text, f"variance {variance:.3g}", "a larger batch, a lower learning rate")
    elif variance < _COLLAPSED * target:
        yield Remark(
            "warning",
            text,
            f"variance {variance:.3g}, the target's {target:.3g}",
            "a larger `distribution_weight` against `invariance_weight`, a larger batch, a lower learning rate",
        )


def _sparsity(metrics: Mapping[str, float]) -> Iterator[Remark]:
    l0, target = _pair(metrics, "val/sparsity/l0")
    if l0 is None:
        return
    if target is None:
        yield from _sparsity_without_target(l0)
        return
    measured = f"ℓ0 {l0:.3f}, the target's {target:.3f}"
    if target < 1 and l0 > DENSE:
        yield Remark("warning", "the features are dense", measured, "`model.rectifier` relu, or a lower `target.mu`")
    elif l0 < CLIFF:
        yield _beyond_the_cliff("the features lie", measured)
    if abs(l0 - target) > max(_L0_OFF[0], _L0_OFF[1] * target):
        yield Remark(
            "note",
            "ℓ0 is far from the target's",
            measured,
            "`target.rectified` and the rectifier must agree"
            if target == 1
            else "`axes.weight` 0.5 and `directions.kind` eigen_bottom_half where they are not set, more directions, a "
            "larger `distribution_weight`: invariance pulls against it, and more training alone did not bring it "
            "(docs/sparsity.md)",
        )


def _sparsity_without_target(l0: float) -> Iterator[Remark]:
    """Judge by fixed bounds. These are notes: nothing was asked for."""
    measured, advice = f"ℓ0 {l0:.4f}", "RDMReg, an objective that asks for a sparsity: `target.active_fraction`"
    if DENSE < l0 < _WITHOUT_ZEROS:
        yield Remark("note", "the features are dense", measured, advice)
    elif l0 < CLIFF:
        text = "the features are beyond the cliff at which the accuracy of Rectified LpJEPA falls (about 95 % zeros)"
        yield Remark("note", text, measured, advice)


def _beyond_the_cliff(what_lies: str, measured: str) -> Remark:
    return Remark(
        "warning",
        f"{what_lies} beyond the cliff, where accuracy falls steeply (past about 95 % zeros)",
        measured,
        "a higher `target.mu` (above about −1.6 with sigma gn), or `target.active_fraction` 0.1",
    )


def _dead_units(metrics: Mapping[str, float]) -> Iterator[Remark]:
    dead, target = _pair(metrics, "val/features/dead_units")
    if dead is not None and dead > (target or 0.0) + _DEAD_UNITS:
        yield Remark(
            "warning",
            "units are dead: zero for every sample of the validation set",
            f"{dead:.1%} of the units",
            "`model.rectifier` rep_relu, whose gradient reaches units that are off, or a lower learning rate",
        )


def _preactivations(metrics: Mapping[str, float]) -> Iterator[Remark]:
    distance = metrics.get("distribution/preactivations/generalized_gaussian/ks_median")
    if distance is not None and distance > _KS_FAR:
        yield Remark(
            "note",
            "features before the rectifier are far from generalised Gaussian, so that ℓ0 does not follow from μ and p",
            f"median Kolmogorov-Smirnov distance {distance:.3f}",
            "more directions, longer training; look at the Q-Q plots",
        )


def _pair(metrics: Mapping[str, float], name: str) -> tuple[float | None, float | None]:
    return metrics.get(name), metrics.get(f"{name}_target")
