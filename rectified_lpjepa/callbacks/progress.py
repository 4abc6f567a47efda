"""A progress bar that says how the representation is doing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.log_interval import is_logged_step

_SHORT = {"invariance": "inv", "rdmreg": "rdm"}
_PROBES = {"enc": "val/probe_encoder/top1", "proj": "val/probe_projector/top1"}


class ProgressBar(TQDMProgressBar):
    """Show loss terms, probe accuracies (percent, last validation) and ℓ0 as measured/target.

    The bar moves on as batches are passed to the device. Its values are fetched from there only in the steps that are
    logged (every ``log_every_n_steps``) and after a validation, because to fetch them is to wait. Where standard output
    is not a terminal (a log file, a cluster job) there is no bar but one line for each epoch, with the epoch's mean
    losses.

    Args:
        refresh_rate: number of batches between two drawings of the bar.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._interactive = True
        self._epoch_start = 0.0
        self._losses: dict[str, str] = {}
        self._validated: dict[str, str] = {}

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
        return {**self._losses, **self._validated}

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.is_enabled and is_logged_step(trainer, batch_idx):
            self._losses = losses(outputs["terms"])
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.is_enabled:
            self._validated = validated(trainer.callback_metrics)
        super().on_validation_end(trainer, pl_module)

    @override
    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_start()
        if trainer.fit_loop.restarted_mid_epoch:  # then Lightning does not call it
            self.on_train_epoch_start(trainer)

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
            means = {name.removeprefix("train/"): value for name, value in metrics.items() if name.startswith("train/")}
            shown = "  ".join(f"{name} {value}" for name, value in (losses(means) | validated(metrics)).items())
            seconds = time.monotonic() - self._epoch_start
            pl_module.print(f"{_epoch(trainer)}  {shown}  ({seconds:.1f} s)", flush=True)


def losses(terms: Mapping[str, Tensor]) -> dict[str, str]:
    """Say in short what the terms of a loss are, those of the probes left out: values with three digits by name."""
    return {
        _SHORT.get(name, name): f"{value.item():.3g}" for name, value in terms.items() if not name.startswith("probe_")
    }


def validated(metrics: Mapping[str, Tensor]) -> dict[str, str]:
    """Say in short what a validation found.

    Args:
        metrics: logged metrics by name, scalars; those that are missing are left out.

    Returns:
        Short names to formatted values: accuracies in percent, ℓ0 as measured/target, or measured if there is none.
    """
    shown = {short: f"{100 * metrics[name].item():.1f}" for short, name in _PROBES.items() if name in metrics}
    fractions = [metrics[name] for name in ("val/sparsity/l0", "val/sparsity/l0_target") if name in metrics]
    if fractions:
        shown["l0"] = "/".join(_fraction(value.item()) for value in fractions)
    return shown


def _fraction(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _epoch(trainer: pl.Trainer) -> str:
    last = trainer.max_epochs
    return f"Epoch {trainer.current_epoch + 1}" + (f"/{last}" if last is not None and last > 0 else "")
