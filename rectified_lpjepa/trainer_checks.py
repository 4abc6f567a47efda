"""What training asks of the trainer and of the data that it comes with, checked before the first batch."""

from __future__ import annotations

import lightning.pytorch as pl

from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.distributed import AllGatherDDPStrategy
from rectified_lpjepa.objectives import Objective

NO_MPS = (
    "GPUs of Apple's (MPS) have no float64, in which losses are summed and targets computed here. HINT: set "
    "`--trainer.accelerator cpu`."
)
"""Why such a GPU is refused, and what to do."""


def check_trainer(trainer: pl.Trainer, *, objective: Objective, batch_size: int, local_size: int | None) -> None:
    """Refuse a trainer with which the numbers of a run would not be what they are taken for.

    Args:
        trainer: about to fit.
        objective: the model's.
        batch_size: images of one batch over all processes, for which the model was built.
        local_size: side of the local crops for which it was built, in pixels; None for none.

    Raises:
        ValueError: for a GPU of Apple's, weights in half precision, data of another batch or crop size,
            ``overfit_batches``, a run without an end, or several processes that do not gather what the objective needs.
    """
    strategy, data = trainer.strategy, getattr(trainer, "datamodule", None)
    if strategy.root_device.type == "mps":
        raise ValueError(NO_MPS)
    if trainer.precision in ("16-true", "bf16-true"):
        raise ValueError(
            f"The precision {trainer.precision} rounds weights, views and their random numbers to 16 bits. "
            f"HINT: set `--trainer.precision {str(trainer.precision).replace('true', 'mixed')}`."
        )
    if isinstance(data, TwoViewDataModule) and data.batch_size != batch_size:
        raise ValueError(
            f"The data come in batches of {data.batch_size} images and the model was built for {batch_size}, "
            f"by which it scales its learning rates. HINT: RectifiedLpJEPA(batch_size={data.batch_size})."
        )
    if isinstance(data, TwoViewDataModule) and data.local_size != local_size:
        raise ValueError(
            f"The data have local crops of {data.local_size} pixels and the model was built for {local_size}. "
            f"HINT: RectifiedLpJEPA(local_size={data.local_size})."
        )
    if trainer.overfit_batches:  # type: ignore[attr-defined]  # a connector sets it
        raise ValueError(
            "overfit_batches would take the place of the sampler that draws global batches. HINT: train on few "
            "samples with `--data.train_samples`, or on few batches with `--trainer.limit_train_batches`."
        )
    if trainer.max_epochs == -1 and trainer.max_steps == -1:
        raise ValueError(
            "max_epochs is -1 and max_steps is not set, but a schedule needs an end. HINT: set one of them."
        )
    gathers = isinstance(strategy, AllGatherDDPStrategy)
    if trainer.world_size > 1 and objective.needs_gathering and not gathers:
        raise ValueError(
            f"You train on {trainer.world_size} processes with the strategy {type(strategy).__name__}, which "
            "does not gather features, so that the loss of each process would see its own part of the batch alone. "
            "HINT: set `--trainer.strategy ddp_all_gather`; or, with RDMReg and if that is what you want, "
            "`--model.objective.init_args.matching per_rank`."
        )


def check_processes(trainer: pl.Trainer, objective: Objective, *, before: int | None) -> None:
    """Refuse to go on with another number of processes where the loss depends on it.

    Args:
        trainer: about to go on.
        objective: the model's.
        before: number of processes of the run that wrote the checkpoint; None where it did not matter.

    Raises:
        ValueError: if it mattered and is another now.
    """
    now = trainer.world_size
    if before not in (None, now) and objective.is_per_process:
        raise ValueError(
            f"In the checkpoint's run {before} process(es) each match the target by themselves; on {now} that is "
            f"another loss. HINT: go on with as many processes as before, start over with `--run.fresh "
            "true`, or give `--model.objective.init_args.matching global`, which does not depend on their number."
        )
