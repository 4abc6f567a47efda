"""What a run is, said at its start, and what came out of it, said at its end."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import lightning
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Timer
from typing_extensions import override

import rectified_lpjepa
from rectified_lpjepa.callbacks.cost import RunCost
from rectified_lpjepa.files import write_text
from rectified_lpjepa.machine import processor
from rectified_lpjepa.remarks import EMULATED, remarks, start_remarks, told
from rectified_lpjepa.source import commit

_ROWS = (
    ("encoder probe, top-1", "probe_encoder/top1", "{:.2%}"),
    ("encoder probe, top-5", "probe_encoder/top5", "{:.2%}"),
    ("projector probe, top-1", "probe_projector/top1", "{:.2%}"),
    ("projector probe, top-5", "probe_projector/top5", "{:.2%}"),
    ("ℓ0: share of non-zeros", "sparsity/l0", "{:.4f}"),
    ("ℓ1: (‖z‖₁/‖z‖₂)² / D", "sparsity/l1", "{:.4f}"),
    ("feature mean", "features/mean", "{:.4f}"),
    ("feature variance", "features/variance", "{:.4f}"),
    ("dead units", "features/dead_units", "{:.2%}"),
    ("all-zero rows", "features/zero_rows", "{:.2%}"),
)
_SETTLED = 0.5  # share of the steps before which features may be far from all that is asked for


def result_table(metrics: Mapping[str, float], prefix: str = "val") -> str:
    """Lay out the metrics of an evaluation as a short table, what was measured beside what a target predicts."""
    heading = "target" if any(name.endswith("_target") for name in metrics) else ""
    lines = [f"{'':<26}{'measured':>10}{heading:>10}"]
    for label, key, form in _ROWS:
        name = f"{prefix}/{key}"
        if name in metrics:
            target = metrics.get(f"{name}_target")
            lines.append(
                f"{label:<26}{form.format(metrics[name]):>10}{'' if target is None else form.format(target):>10}"
            )
    return "\n".join(lines)


class RunSummary(pl.Callback):
    """Print and store what decides a run's numbers at its start (``summary.json``) and its result (``result.json``).

    Both lie in the run directory, the trainer's ``default_root_dir``. ``result.json`` says that the run is finished.
    The last epoch is validated in any case, so that the result is that of the last weights. What spoils a run is
    remarked on once, at the end of the epoch that shows it: a rising loss at any time, collapse and dead units, say,
    from the middle of the run on.

    Attributes:
        started: whether training has taken place since this object was made.
    """

    def __init__(self) -> None:
        self.started = False
        self._commit = commit()  # now: another may be checked out when the run ends
        self._seconds = 0.0
        self._since = 0.0
        self._losses: list[float] = []
        self._remarked: set[str] = set()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = True
        self._since = time.monotonic()
        self.on_train_epoch_start(trainer, pl_module)  # Lightning calls it no more for an epoch that had begun
        if not trainer.is_global_zero:
            return
        facts: dict[str, Any] = {"hardware": _hardware(trainer), "precision": _precision(trainer)}
        for part in (trainer.datamodule, pl_module):  # type: ignore[attr-defined]  # a connector sets it
            facts |= cast("Any", part).facts()
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            text = json.dumps(facts, indent=2, ensure_ascii=False)
            write_text(Path(trainer.default_root_dir) / "summary.json", text + "\n")
        width = max(len(key) for key in facts)
        print("\n".join(f"{key:<{width}}  {_readable(value)}" for key, value in facts.items()))  # noqa: T201
        noticed = told(start_remarks(facts))
        if noticed:
            print(noticed)  # noqa: T201

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if is_last and trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}  # on all processes together
        if "train/loss" in metrics:
            self._losses.append(metrics["train/loss"])
        share = trainer.global_step / trainer.estimated_stepping_batches
        # What there is to say of the end is said with the result.
        if share >= 1 or trainer.should_stop or not trainer.is_global_zero:
            return
        is_validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        noticed = remarks(metrics if is_validated and share >= _SETTLED else {}, self._losses)
        new = [one for one in noticed if one.severity == "warning" and one.text not in self._remarked]
        if new:
            self._remarked |= {one.text for one in new}
            pl_module.print(f"epoch {trainer.current_epoch + 1}: {told(new)}")

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        is_trial = trainer.fast_dev_run  # type: ignore[attr-defined]
        if self.is_finished(trainer) and not is_trial:
            self.write_result(trainer)

    @staticmethod
    def is_finished(trainer: pl.Trainer) -> bool:
        """Say whether a run has done all that it was to do, or was ended by a criterion such as early stopping."""
        fit_loop = trainer.fit_loop
        enough_epochs = fit_loop.max_epochs not in (None, -1) and trainer.current_epoch >= fit_loop.max_epochs
        enough_steps = fit_loop.max_steps != -1 and trainer.global_step >= fit_loop.max_steps
        remaining = [callback.time_remaining() for callback in _callbacks(trainer) if isinstance(callback, Timer)]
        is_out_of_time = any(seconds is not None and seconds <= 0 for seconds in remaining)
        return enough_epochs or enough_steps or (trainer.should_stop and not is_out_of_time)

    def write_result(self, trainer: pl.Trainer) -> None:
        """Store the trainer's last metrics as the result of the run."""
        metrics = {
            key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith(("train/", "val/"))
        }
        if not trainer.is_global_zero:
            return
        cost = next((part.measured(trainer) for part in _callbacks(trainer) if isinstance(part, RunCost)), {})
        result = {
            "metrics": metrics,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "seconds": round(self._elapsed(), 1),
            "cost": cost,
            "hardware": _hardware(trainer),
            "commit": self._commit,
            "versions": {
                "rectified_lpjepa": rectified_lpjepa.__version__,
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "python": platform.python_version(),
            },
        }
        write_text(Path(trainer.default_root_dir) / "result.json", json.dumps(result, indent=2) + "\n")

    def _elapsed(self) -> float:
        return self._seconds + (time.monotonic() - self._since if self.started else 0.0)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._elapsed(), "losses": self._losses, "remarked": sorted(self._remarked)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds = state_dict["seconds"]
        self._losses = list(state_dict["losses"])
        self._remarked = set(state_dict["remarked"])


def _callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
    return callbacks


def _hardware(trainer: pl.Trainer) -> str:
    if trainer.strategy.root_device.type == "cuda":
        return f"{trainer.world_size} × {torch.cuda.get_device_name()}"
    return f"{trainer.world_size} process(es) × {torch.get_num_threads()} threads, {processor()}"


def _lacks_bfloat16() -> bool:
    # What PyTorch itself decides by; there is no public name for it.
    return torch.backends.mkldnn.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _precision(trainer: pl.Trainer) -> str:
    on_cpu = trainer.strategy.root_device.type == "cpu"
    is_emulated = on_cpu and "bf16" in str(trainer.precision) and _lacks_bfloat16()
    return f"{trainer.precision}{EMULATED if is_emulated else ''}"


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_readable(part)}" for key, part in value.items())
    return str(value)
