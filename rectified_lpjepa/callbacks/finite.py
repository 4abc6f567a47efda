"""Stop a run whose loss is no longer a number, before it spoils its last good checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.log_interval import is_logged_step

_NONE = torch.iinfo(torch.int64).max  # nothing bad seen


class _Step(NamedTuple):
    """A step that nobody has looked at yet."""

    number: int
    terms: Mapping[str, Tensor]
    rates: dict[str, float]


class FiniteCheck(pl.Callback):
    """Raise when a loss term becomes NaN or infinite, saying which, when, and at which learning rates.

    Looking at a loss on the host would make it wait for the device in every step. Instead the terms stay on the device
    and the host looks at all of them in the steps that are logged (every ``log_every_n_steps``), before validation, at
    the end of an epoch and before any checkpoint is written, on all processes at once. The parameters are looked at
    before a checkpoint, too: the loss of the step that ruined them can still have been finite.

    The module's ``training_step`` must return a dict whose ``"terms"`` are detached scalar tensors by name.
    """

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._next = 0
        self._rates: dict[str, float] = {}

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._steps = []

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Noted before the step: afterwards the scheduler has moved on to the next step's rates.
        self._next, self._rates = trainer.global_step, _learning_rates(trainer)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps.append(_Step(self._next, outputs["terms"], self._rates))
        # After the last batch of an epoch a look follows in any case, from where the epoch can be brought to its end.
        if is_logged_step(trainer, batch_idx) and not trainer.is_last_batch:
            self._look(trainer)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._steps:  # not before training, nor without it
            self._look(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._look(trainer)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._look(trainer)
        named = [(name, value) for name, value in pl_module.named_parameters() if value.is_floating_point()]
        finite = torch.stack([value.detach().isfinite().all() for _, value in named])
        if not bool(finite.all()):
            name = named[int(finite.int().argmin())][0]
            _fail(f"Parameter '{name}' is not finite after step {trainer.global_step - 1}", _learning_rates(trainer))

    def _look(self, trainer: pl.Trainer) -> None:
        """Look at the steps since the last look."""
        steps, self._steps = self._steps, []
        first_bad = torch.tensor(_NONE, device=trainer.strategy.root_device)
        if steps:
            # The total is not finite whenever a term is not, so it comes last and the term is the one that is named.
            names = sorted(steps[0].terms, key=lambda name: name == "loss")
            values = torch.stack([step.terms[name].detach().float() for step in steps for name in names])
            places = torch.arange(len(values), device=values.device)
            first_bad = places.masked_fill(values.isfinite(), _NONE).min()
        if trainer.world_size > 1:
            # Every process takes part, so that all of them stop together instead of waiting for the one that did.
            dist.all_reduce(first_bad, op=dist.ReduceOp.MIN)  # Lightning's own reduction would wait at a barrier first
        code = int(first_bad)
        if code != _NONE:
            step, name = steps[code // len(names)], names[code % len(names)]
            _fail(f"Loss term '{name}' is first not finite at step {step.number}", step.rates)


def _learning_rates(trainer: pl.Trainer) -> dict[str, float]:
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return {str(group.get("name", index)): float(group["lr"]) for index, group in enumerate(groups)}


def _fail(what: str, rates: dict[str, float]) -> NoReturn:
    stated = ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items())
    raise FloatingPointError(
        f"{what} (learning rates then: {stated}). No checkpoint was written since: the last good one is still there to "
        "resume from. Try a lower learning rate, a longer warm-up, gradient clipping, or bf16 or 32-bit precision in "
        "place of fp16, and look for damaged images."
    )
