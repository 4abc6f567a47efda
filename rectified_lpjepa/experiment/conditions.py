"""The conditions of an experiment: what its numbers are expected to do.

A condition is of one of three kinds:

.. code-block:: yaml

    - text: ℓ0 falls with μ             # means over seeds go one way
      metric: val/sparsity/l0
      trend: increasing                 # or decreasing
      over: mu
    - text: ℓ0 is the one asked for     # each setting on its own
      metric: val/sparsity/l0
      within: 0.05                      # or at_least, or at_most: of the difference, or without `of` of the metric
      of: val/sparsity/l0_target
      relative: 0.15                    # or this share of `of`, where that is more
      where: {p: 2.0}
    - text: ReLU needs a rectified target   # one setting against another
      metric: val/probe_encoder/top1
      where: {rectified: true}
      above: {rectified: false}
      by: 0.01
    - text: control costs nothing       # the same, at equal ℓ0 as it was measured
      metric: val/probe_encoder/top1
      where: {axis_weight: 0.5}
      above: {axis_weight: null}
      by: -0.005
      at_equal: val/sparsity/l0
      over: active_fraction             # the settings of `above` along it make a curve of the metric over ℓ0

Settings that ``where`` leaves open, or lists as ``mu: [0.0, -1.0]``, are looked at one by one, and the condition must
hold for all of them; of two that are compared they are the same. What several seeds measured counts with its 95 %
interval: a condition holds if all of the interval is on its side, is not met if all of it is on the other, and is
undecided in between. A single seed counts as it is.

At an equal measured quantity the mean counts, not every setting: each setting and seed of ``where`` is paired with the
curve of ``above``, see :mod:`rectified_lpjepa.experiment.at_equal`, and the condition is judged by the mean of the
differences with its 95 % interval over all pairs. A setting with three seeds counts three times. The interval takes the
differences as independent, which those that share a curve are not quite. A measured quantity that the curve does not
reach is not extrapolated: the condition is undecided.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_KINDS = ("trend", "at_least", "at_most", "within", "above")
_TRENDS = ("increasing", "decreasing")
_GOES_WITH = {
    "over": ("trend", "at_equal"),
    "of": ("within", "at_least", "at_most"),
    "relative": ("within",),
    "by": ("above",),
    "at_equal": ("above",),
}
_NEEDS = {"trend": "over", "within": "of", "at_equal": "over"}


@dataclass(frozen=True)
class Condition:
    """What a metric is expected to do; see the module's text.

    Args:
        text: in words.
        metric: its name.
        where: the settings that it is about: a value or a list of values by short name, None for an option that is not
            set.
        profiles: that it is expected of; by default all.
        trend: ``increasing`` or ``decreasing``.
        over: short name of the value over which there is a trend, or along which there is a curve for ``at_equal``.
        at_least: the metric, less the metric ``of`` if there is one, is at least this.
        at_most: the metric, less the metric ``of`` if there is one, is at most this.
        within: the metric is at most this far from the metric ``of``.
        relative: a share of the metric ``of``: what ``within`` is, where that is less than this.
        of: name of another metric of the same runs.
        above: the settings that are to have less of the metric than those of ``where``, by short name.
        by: how much less.
        at_equal: name of the metric that is equal where the two are compared, by interpolation.

    Raises:
        ValueError: it is of none of the kinds, or of two, or a key is missing or of another kind.
    """

    text: str
    metric: str
    where: dict[str, Any] = field(default_factory=dict)
    profiles: list[str] = field(default_factory=list)
    trend: str | None = None
    over: str | None = None
    at_least: float | int | None = None
    at_most: float | int | None = None
    within: float | int | None = None
    relative: float | int | None = None
    of: str | None = None
    above: dict[str, Any] | None = None
    by: float | int | None = None
    at_equal: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in _KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"the condition {self.text!r} must have one of {', '.join(_KINDS)}, got {', '.join(given) or 'none'}."
            )
        if self.trend not in (None, *_TRENDS):
            raise ValueError(f"the condition {self.text!r}: trend must be {' or '.join(_TRENDS)}, got {self.trend!r}.")
        for name, kinds in _GOES_WITH.items():
            if getattr(self, name) is not None and all(getattr(self, kind) is None for kind in kinds):
                raise ValueError(f"the condition {self.text!r}: {name} goes with {' or '.join(kinds)} alone.")
        for kind, name in _NEEDS.items():
            if getattr(self, kind) is not None and getattr(self, name) is None:
                raise ValueError(f"the condition {self.text!r}: {kind} needs {name}.")

    @property
    def names(self) -> set[str]:
        """The short names of the settings that it speaks of."""
        return {*self.where, *(self.above or {}), *([self.over] if self.over else [])}
