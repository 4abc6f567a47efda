"""Stop a run whose loss is no longer a number, before it spoils its last good checkpoint."""

from __future__ import annotations

from typing import Any, NoReturn

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override

_NONE = torch.iinfo(torch.int64).max  # nothing bad seen


class FiniteCheck(pl.Callback):
    """Raise when a loss term becomes NaN or infinite, saying which, when, and at which learning rates.

    Looking at a loss on the host would make it wait for the device in every step. Instead the first bad (step, term)
    is kept on the device, and the host looks every ``log_every_n_steps`` batches, before validation, at the end of an
    epoch and before any checkpoint is written, on all processes at once. The parameters are looked at before a
    checkpoint, too: the loss of the step that ruined them can still have been finite.

    The module's ``training_step`` must return a dict whose ``"terms"`` are detached scalar tensors by name.
    """

    def __init__(self) -> None:
        self._first_bad: Tensor | None = None  # int64 scalar: step * number of terms + term
        self._terms: list[str] = []
        self._step = 0
        self._rates: dict[int, dict[str, float]] = {}

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Noted before the step: afterwards the scheduler has moved on to the next step's rates.
        self._step = trainer.global_step
        self._rates[self._step] = _learning_rates(trainer)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # The total is not finite whenever a term is not, so it comes last and the term is the one that is named.
        terms: dict[str, Tensor] = dict(sorted(outputs["terms"].items(), key=lambda item: item[0] == "loss"))
        self._terms = list(terms)
        values = torch.stack([value.detach().float() for value in terms.values()])
        first = self._step * len(terms)
        codes = torch.arange(first, first + len(terms), device=values.device)
        bad = codes.masked_fill(values.isfinite(), _NONE).min()
        self._first_bad = bad if self._first_bad is None else torch.minimum(self._first_bad, bad)
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # a connector sets it
        if every and (batch_idx + 1) % every == 0:
            self._check_terms(trainer)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check_terms(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check_terms(trainer)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._check_terms(trainer)
        named = [(name, value) for name, value in pl_module.named_parameters() if value.is_floating_point()]
        finite = torch.stack([value.detach().isfinite().all() for _, value in named])
        if not bool(finite.all()):
            name = named[int(finite.int().argmin())][0]
            _fail(f"Parameter '{name}' is not finite after step {trainer.global_step - 1}", _learning_rates(trainer))

    def _check_terms(self, trainer: pl.Trainer) -> None:
        if self._first_bad is None:
            return
        # Every process takes part, so that all of them stop together instead of waiting for the one that did.
        first_bad, self._first_bad = trainer.strategy.reduce(self._first_bad, reduce_op="min"), None
        code = int(first_bad)
        if code != _NONE:
            step, term = divmod(code, len(self._terms))
            _fail(f"Loss term '{self._terms[term]}' is first not finite at step {step}", self._rates[step])
        self._rates.clear()


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
