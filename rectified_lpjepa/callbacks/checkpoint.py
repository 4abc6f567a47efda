"""When a run is saved: after an epoch, every few steps, and when it is asked to stop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from rectified_lpjepa.callbacks.stop import StopSignals

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"
_AGREE_EVERY = 50  # steps, at most, in which several processes do not know of each other's signals


class RunCheckpoint(ModelCheckpoint):
    """Keep ``checkpoints/last.ckpt``, the one before as ``previous.ckpt``, and ``epoch-….ckpt`` every few epochs.

    A checkpoint is written after an epoch, with its validation and its means, or after a step in the midst of one; in
    both cases after everything that was measured until then has reached the loggers, and those the disk. So a run that
    goes on from it repeats nothing, loses nothing, and equals the run that never stopped.

    SIGTERM, SIGUSR1 and SIGINT set a flag. The run then saves and ends after the step in which they came, with several
    processes after the next step in which they agree (every ``log_every_n_steps``, 50 at most), on all of them; in the
    last step of an epoch, after the epoch. The trainer raises ``SIGTERMException`` then, and :attr:`signals` says which
    it was: none, where ``trainer.should_stop``, as of a limit of time, ended the run amid an epoch.

    Lightning's own class saves before the step or the epoch is logged, and writes its last checkpoint only when it
    also writes another one; this one has no state and does not.

    Args:
        every_n_epochs: number of epochs between the checkpoints that are kept for good; 0 keeps none.
        every_n_steps: number of optimiser steps between two savings of ``last.ckpt`` in the midst of an epoch, for long
            epochs on machines that fail; 0 saves after epochs only.
        dirpath: folder of the checkpoints; ``checkpoints`` in the run directory (``default_root_dir``) if absent.

    Raises:
        ValueError: if a period is negative.
    """

    def __init__(self, every_n_epochs: int = 100, every_n_steps: int = 0, dirpath: str | None = None) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("every_n_steps", every_n_steps)):
            if value < 0:
                raise ValueError(f"RunCheckpoint({name}={value}) must be at least 0; with 0 there are no such ones.")
        super().__init__(dirpath=dirpath, save_top_k=0, every_n_epochs=0, save_on_train_epoch_end=True)
        self.keep_every_n_epochs = every_n_epochs
        self.save_every_n_steps = every_n_steps
        self.signals = StopSignals()
        self._is_out_of_time = False

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._locate(trainer)
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self.signals.install(trainer)
            loop = trainer.fit_loop
            # No hook of Lightning's is called once a step, or an epoch, is complete and logged.
            _call_after(loop.epoch_loop, "on_advance_end", lambda _: self._after_step(trainer))
            _call_after(loop, "on_advance_end", lambda: self._after_epoch(trainer))
            # Going on after a validation within an epoch, or at the start of one, Lightning would count a step as done
            # that is not; what is saved here leaves nothing to be made up for.
            _call_after(loop.epoch_loop, "on_run_start", lambda _: setattr(loop.epoch_loop, "restarting", False))
            self._is_out_of_time = False

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # Lightning would validate, log and count the part of an epoch as if it were the whole.
        if trainer.should_stop and trainer.fit_loop._can_stop_early and not trainer.is_last_batch:
            trainer.should_stop = False
            self._is_out_of_time = True

    def _after_step(self, trainer: pl.Trainer) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate() or loop._is_training_done:  # amid a step; before the end of the epoch
            return
        if self._is_out_of_time or self._is_stop_requested(trainer):
            self._save_last(trainer)
            self.signals.stop(trainer)
        every = self.save_every_n_steps
        if trainer.should_stop or (every and trainer.global_step % every == 0):
            self._save_last(trainer)

    def _is_stop_requested(self, trainer: pl.Trainer) -> bool:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # a connector sets it
        is_occasion = trainer.world_size == 1 or trainer.global_step % min(every or _AGREE_EVERY, _AGREE_EVERY) == 0
        return is_occasion and self.signals.is_requested(trainer)

    def _after_epoch(self, trainer: pl.Trainer) -> None:
        loop = trainer.fit_loop.epoch_loop
        if not loop._is_training_done:  # stopped in its midst, and saved there
            return
        # As at the start of the next epoch, where the run goes on.
        loop.batch_progress.reset_on_run()
        loop.scheduler_progress.reset_on_run()
        loop.automatic_optimization.optim_progress.reset_on_run()
        loop.val_loop.batch_progress.total.reset()
        epoch = trainer.current_epoch
        if self.keep_every_n_epochs and epoch % self.keep_every_n_epochs == 0:
            self._save(trainer, f"epoch-{epoch:04d}.ckpt")
        self._save_last(trainer)
        if self.signals.is_requested(trainer) and not trainer.fit_loop.done:
            self.signals.stop(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        folder = self._locate(trainer)
        if trainer.is_global_zero and (folder / LAST).exists() and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            _keep_as(folder / LAST, folder / PREVIOUS)
        self._save(trainer, LAST)
        self.last_model_path = str(folder / LAST)

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # a connector sets it
            return
        for logger in trainer.loggers:  # what a run goes on from must find its logs, too
            logger.save()
        trainer.save_checkpoint(self._locate(trainer) / name, weights_only=False)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {}

    @override
    def _find_last_checkpoints(self, trainer: pl.Trainer) -> set[str]:
        # `ckpt_path="last"` is looked up before `setup`.
        self._locate(trainer)
        return super()._find_last_checkpoints(trainer)

    def _locate(self, trainer: pl.Trainer) -> Path:
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir).resolve() / "checkpoints")
        return Path(self.dirpath)


def _call_after(thing: Any, method: str, then: Callable[..., None]) -> None:
    original = getattr(type(thing), method)

    def both(*arguments: Any) -> None:
        original(thing, *arguments)
        then(*arguments)

    setattr(thing, method, both)


def _keep_as(path: Path, other: Path) -> None:
    """Give a file a second name, so that at all times the first one is there."""
    temporary = other.with_name(f".{other.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    temporary.replace(other)
