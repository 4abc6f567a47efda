"""A progress bar that says how the representation is doing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor
from typing_extensions import override

_LOSSES = {"loss": "loss", "inv": "invariance", "rdm": "rdmreg"}
_PROBES = {"enc": "val/probe_encoder/top1", "proj": "val/probe_projector/top1"}


class ProgressBar(TQDMProgressBar):
    """Show loss terms, probe accuracies (percent, last validation) and ℓ0 as measured/target.

    The bar shows the losses of the present step, which are fetched from the device only when it is redrawn. Where
    standard output is not a terminal (a log file, a cluster job) there is no bar but one line for each epoch, with the
    epoch's mean losses.

    Args:
        refresh_rate: number of batches between two drawings of the bar.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._interactive = True
        self._epoch_start = 0.0

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._interactive = sys.stdout.isatty()
        if not self._interactive:
            self.disable()

    @override
    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        return {**summary(trainer.callback_metrics, losses="step")}

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)
        self._epoch_start = time.monotonic()
        self.train_progress_bar.set_description(_epoch(trainer))

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # On every process, not only where it is shown: the first look at an epoch's means can be a collective.
        metrics = trainer.callback_metrics
        super().on_train_epoch_end(trainer, pl_module)
        if not self._interactive and trainer.is_global_zero:
            shown = "  ".join(f"{name} {value}" for name, value in summary(metrics).items())
            seconds = time.monotonic() - self._epoch_start
            pl_module.print(f"{_epoch(trainer)}  {shown}  ({seconds:.1f} s)", flush=True)


def summary(metrics: Mapping[str, Tensor], losses: Literal["train", "step"] = "train") -> dict[str, str]:
    """Say in short what the metrics of a run are.

    Args:
        metrics: logged metrics by name, scalars; those that are missing are left out.
        losses: whether to show mean losses of an epoch (``"train/loss"``) or those of a step (``"step/loss"``).

    Returns:
        Short names to formatted values: losses with three digits, accuracies in percent, ℓ0 as measured/target.
    """
    terms = {short: metrics.get(f"{losses}/{name}") for short, name in _LOSSES.items()}
    shown = {short: f"{value.item():.3g}" for short, value in terms.items() if value is not None}
    shown |= {short: f"{100 * metrics[name].item():.1f}" for short, name in _PROBES.items() if name in metrics}
    if "val/sparsity/l0" in metrics and "val/sparsity/l0_target" in metrics:
        shown["l0"] = "/".join(_fraction(metrics[f"val/sparsity/{name}"].item()) for name in ("l0", "l0_target"))
    return shown


def _fraction(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _epoch(trainer: pl.Trainer) -> str:
    last = trainer.max_epochs
    return f"Epoch {trainer.current_epoch + 1}" + (f"/{last}" if last is not None and last > 0 else "")
