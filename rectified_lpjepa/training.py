"""The training of a run: until it is done, is stopped, or is out of time, and what is said and asked for then."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import cast

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rectified_lpjepa.callbacks import RunCheckpoint, RunSummary
from rectified_lpjepa.commands import OUT_OF_TIME_EXIT, SIGNAL_EXIT
from rectified_lpjepa.distributed.first import say_first
from rectified_lpjepa.run import RunDirectory
from rectified_lpjepa.slurm import requeue_job


def train(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule,
    *,
    directory: RunDirectory,
    checkpoint: Path | None,
    summary: RunSummary,
) -> None:
    """Train a run that is not finished, and say how to go on where it does not come to its end.

    Args:
        trainer: with :class:`~rectified_lpjepa.callbacks.RunCheckpoint` and ``summary`` among its callbacks.
        model: what is trained.
        datamodule: what it is trained on.
        directory: of the run, claimed by this process.
        checkpoint: from which it goes on; None for a new run.
        summary: by which the result is written.

    Raises:
        SystemExit: a signal stopped it, with status 128 and the signal's number; or its time is used up, with status
            3 on the first process, and 0 on the others, whose end Lightning's launcher would take for a crash.
        ValueError: the checkpoint is that of another run and has done all that is asked for.
    """
    try:
        trainer.fit(model, datamodule, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:
        number = cast("RunCheckpoint", trainer.checkpoint_callback).signals.number
        if number is None:  # Lightning's own end, which did not wait for that of the step
            number = signal.SIGTERM if isinstance(end, SIGTERMException) else signal.SIGINT
        _say_stopped(f"stopped by {number.name}", trainer, directory)
        if number == signal.SIGUSR1:  # by which a cluster says that the job's time is almost up
            _requeue()
        raise SystemExit(SIGNAL_EXIT + number) from None
    if not summary.is_finished(trainer):
        _say_stopped("stopped before its end: the time of `--trainer.max_time` is used up", trainer, directory)
        raise SystemExit(OUT_OF_TIME_EXIT if trainer.is_global_zero else 0)
    if summary.started or checkpoint is None:
        return
    if checkpoint.parent != directory.last_checkpoint.parent:
        raise ValueError(
            f"The checkpoint {checkpoint} has done all that is asked for here ({trainer.current_epoch} "
            f"epochs, {trainer.global_step} steps). HINT: raise `--trainer.max_epochs`."
        )
    # Stopped between its last checkpoint and its end: what is missing is the result.
    trainer.validate(model, datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)
    summary.write_result(trainer)


@rank_zero_only
def _requeue() -> None:
    answer = requeue_job()
    if answer is not None:
        say_first(answer)


def _say_stopped(how: str, trainer: Trainer, directory: RunDirectory) -> None:
    after = "nothing is kept yet: the same command starts over"
    if directory.last_checkpoint.exists():
        after = f"the same command goes on from {directory.last_checkpoint}"
    say_first(f"{how} in epoch {trainer.current_epoch + 1}, after step {trainer.global_step}; {after}")
