"""What metrics are called, and the units that they are shown in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rectified_lpjepa.experiment.intervals import Interval
from rectified_lpjepa.experiment.presentation import Column

_LAST = {  # last part of a metric's name: what people call it, and its unit
    "top1": ("top-1 accuracy", "%"),
    "top5": ("top-5 accuracy", "%"),
    "l0": ("active fraction ℓ0", ""),
    "l1": ("ℓ1 sparsity (‖z‖₁/‖z‖₂)²/D", ""),
    "auroc": ("AUROC", ""),
    "aupr": ("AUPR", ""),
    "nhsic": ("normalised HSIC", ""),
    "loss": ("loss", ""),
    "rdmreg": ("RDMReg", ""),
    "invariance": ("invariance", ""),
    "dead_units": ("dead units", "%"),
    "zero_rows": ("all-zero rows", "%"),
}


@dataclass(frozen=True)
class Quantity:
    """A metric as people read it.

    Attributes:
        metric: its name.
        label: what it is called.
        unit: ``%`` for shares shown in percent; empty for plain numbers.
    """

    metric: str
    label: str
    unit: str

    @property
    def factor(self) -> float:
        """What a value is multiplied by to be shown."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def axis(self) -> str:
        """The label of an axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def shown(self, value: float) -> str:
        """Write a value in its unit, the unit itself left out."""
        return _written(value * self.factor, self._decimals(value))

    def shown_interval(self, interval: Interval) -> str:
        """Write mean ± half the interval, to the same place; the mean alone where one value leaves no interval."""
        if interval.half is None:
            return self.shown(interval.mean)
        decimals = self._decimals(max(abs(interval.mean), interval.half))
        half, mean = (_written(value * self.factor, decimals) for value in (interval.half, interval.mean))
        return f"{mean} ± {half}"

    def _decimals(self, value: float) -> int | None:
        """Return how many decimals people read, None for numbers that are too large or small for a fixed number."""
        if self.unit == "%":
            return 2
        return 4 if value == 0 or 1e-3 <= abs(value) < 100 else None


def quantity(metric: str, columns: Sequence[Column]) -> Quantity:
    """Find out what a metric is called: as a column of the experiment's table says, or else by its name."""
    for column in columns:
        if column.metric == metric:
            return Quantity(metric, column.label, column.unit)
    *path, last = [part for part in metric.removesuffix("_target").split("/") if part not in {"val", "sparsity"}]
    label, unit = _LAST.get(last, (last.replace("_", " "), ""))
    where = " ".join(path).replace("_", " ")
    return Quantity(metric, f"{where}: {label}" if where else label, unit)


def _written(value: float, decimals: int | None) -> str:
    return f"{value:.3g}" if decimals is None else f"{value:.{decimals}f}"
