"""A callback that makes a run take its time, so that something can happen to it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer


class Pace(Callback):
    """Rest before each step, and write down how many steps are done.

    Args:
        seconds: length of the rest.
        file: where the number of steps goes.
        epoch: number, from 0, of the only epoch with rests; None for all.
    """

    def __init__(self, seconds: float, file: str, epoch: int | None = None) -> None:
        self.seconds = seconds
        self.file = Path(file)
        self.epoch = epoch

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.is_global_zero:
            self.file.write_text(str(trainer.global_step))
        if self.epoch in (None, trainer.current_epoch):
            time.sleep(self.seconds)
