"""A callback that makes a run take its time, so that something can happen in its middle."""

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
    """

    def __init__(self, seconds: float, file: str) -> None:
        self.seconds = seconds
        self.file = Path(file)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.is_global_zero:
            self.file.write_text(str(trainer.global_step))
        time.sleep(self.seconds)
