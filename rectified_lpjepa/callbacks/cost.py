"""What a run costs: time and memory."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from typing_extensions import override


class RunCost(pl.Callback):
    """Measure the time of a training step and the memory of the first process.

    An epoch is timed from its first batch to the end of its last one, without validation, figures and checkpoints but
    with the wait for data; the host waits for the device once, at the end. Epochs that a stop has cut in two count from
    where the run went on.
    """

    def __init__(self) -> None:
        self._seconds_per_step: list[float] = []  # of each epoch
        self._peak_gib = 0.0
        self._since: tuple[float, int] | None = None

    def measured(self, trainer: pl.Trainer) -> dict[str, float]:
        """Return what has been measured so far, by name.

        ``seconds_per_step``: the median over epochs of their mean time of an optimiser step; missing before the end of
        the first epoch. ``peak_memory_gib``: on a GPU the most that PyTorch has had allocated there, elsewhere the
        most that the process has had in memory, program and data included.
        """
        self._note_peak(trainer)
        found = {"peak_memory_gib": self._peak_gib}
        if self._seconds_per_step:
            found["seconds_per_step"] = statistics.median(self._seconds_per_step)
        return found

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._since is None:
            self._since = time.monotonic(), trainer.global_step

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if not trainer.is_last_batch:
            return
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        assert self._since is not None
        since, step = self._since
        self._since = None
        if trainer.global_step > step:
            self._seconds_per_step.append((time.monotonic() - since) / (trainer.global_step - step))
        self._note_peak(trainer)

    def _note_peak(self, trainer: pl.Trainer) -> None:
        self._peak_gib = max(self._peak_gib, _peak_bytes(trainer.strategy.root_device) / 2**30)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"seconds_per_step": list(self._seconds_per_step), "peak_gib": self._peak_gib}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds_per_step = list(state_dict["seconds_per_step"])
        self._peak_gib = state_dict["peak_gib"]


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        # Not from getrusage, which on Linux also tells of the program that started this one.
        peaks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if peaks:
            return 1024 * int(peaks[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # in bytes on macOS, in kibibytes elsewhere
