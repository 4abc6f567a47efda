"""When a run in training looks at the values on its device: where its loggers do, every ``log_every_n_steps`` steps."""

from __future__ import annotations

from lightning.pytorch import Trainer


def is_logged_step(trainer: Trainer, batch_idx: int) -> bool:
    """Say, at the end of a training batch, whether it completed a step that the loggers write down.

    A look makes the host wait for the device, so everything that wants one does it in these steps alone. The answer is
    the same on all processes.

    Args:
        trainer: whose ``log_every_n_steps`` counts optimiser steps; with 0 there is never one.
        batch_idx: number of the batch in its epoch.
    """
    return _is_logged(trainer, batch_idx, trainer.global_step)


def will_be_logged_step(trainer: Trainer, batch_idx: int) -> bool:
    """Say the same as :func:`is_logged_step` before the optimiser has stepped."""
    return _is_logged(trainer, batch_idx, trainer.global_step + 1)


def _is_logged(trainer: Trainer, batch_idx: int, steps: int) -> bool:
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # a connector sets it
    stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
    return every > 0 and stepped and steps % every == 0
