"""Optimiser, parameter groups and learning-rate schedule.

Base rates are for a batch of 256 and are scaled by the total batch. Every group warms up linearly, step by step, and
then follows a cosine to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from timm.optim.lars import Lars
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

PROBE_PREFIX = "probe_"
LARS_TRUST_COEFFICIENT = 0.02
LARS_EPS = 1e-8


def effective_lr(base_lr: float, total_batch: int) -> float:
    """Scale a base rate to the batch: ``base_lr * total_batch / 256``.

    Args:
        base_lr: rate for a batch of 256 images.
        total_batch: images of one optimiser step, over all processes and all accumulated batches.

    Returns:
        The peak rate in effect.
    """
    return base_lr * total_batch / 256


def warmup_cosine(step: int, *, warmup_steps: int, total_steps: int, start_factor: float) -> float:
    """Compute the rate of a step as a fraction of the peak rate.

    Args:
        step: optimiser steps done so far.
        warmup_steps: steps of the linear warm-up; step ``warmup_steps`` has the peak rate.
        total_steps: steps of the run; the cosine is zero there, one step after the last.
        start_factor: fraction at step 0, if there is a warm-up.

    Returns:
        A factor in [0, 1].
    """
    if step < warmup_steps:
        return start_factor + (1 - start_factor) * step / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def parameter_groups(modules: Iterable[nn.Module], probes: Mapping[str, nn.Module]) -> list[dict[str, Any]]:
    """Sort parameters into named groups.

    Args:
        modules: the parts of the model.
        probes: the probes by name.

    Returns:
        Groups ``weights`` (two and more dimensions) and ``biases_and_norms`` (one dimension), and for each probe
        ``probe_<name>`` and ``probe_<name>_bias`` likewise, as dicts with the keys ``name`` and ``params``. A group may
        be empty.
    """
    kinds = [("weights", "biases_and_norms", [parameter for module in modules for parameter in module.parameters()])]
    for name, probe in probes.items():
        kinds.append((f"{PROBE_PREFIX}{name}", f"{PROBE_PREFIX}{name}_bias", list(probe.parameters())))
    groups: list[dict[str, Any]] = []
    for matrices, vectors, parameters in kinds:
        groups.append({"name": matrices, "params": [parameter for parameter in parameters if parameter.ndim > 1]})
        groups.append({"name": vectors, "params": [parameter for parameter in parameters if parameter.ndim <= 1]})
    return groups


@dataclass(frozen=True)
class Optimizer:
    """Settings of the optimiser and of its schedule.

    LARS is timm's, with trust coefficient 0.02 and the trust ratio clipped to ``min(ratio / lr, 1)``; parameters of one
    dimension (biases, norms) get neither trust ratio nor weight decay. AdamW decays all parameters of the model. Probes
    learn at a rate of their own and without weight decay; in LARS their weights get the trust ratio, too.

    Args:
        name: ``lars`` or ``adamw``.
        lr: peak rate of the model for a batch of 256 images. With 0 its weights stay as they were drawn, whatever the
            weight decay, and the probes learn on random features.
        probe_lr: peak rate of the probes for a batch of 256 images.
        weight_decay: weight decay of the model, coupled in LARS and decoupled in AdamW.
        warmup_epochs: length of the linear warm-up.
        warmup_start_lr: rate of the first step of the warm-up, of all groups and whatever the batch; a group whose peak
            rate is lower starts at its peak.
        momentum: momentum of LARS.
        betas: running-average coefficients of AdamW.

    Raises:
        ValueError: a setting out of its range.
    """

    name: Literal["lars", "adamw"] = "lars"
    lr: float = 0.03
    probe_lr: float = 0.01
    weight_decay: float = 1e-4
    warmup_epochs: int = 10
    warmup_start_lr: float = 3e-5
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.name not in ("lars", "adamw"):
            raise ValueError(f"Optimizer(name={self.name!r}) is unknown. Choose lars or adamw.")
        if not (0 < self.probe_lr < math.inf):
            raise ValueError(f"Optimizer(probe_lr={self.probe_lr}) must be a positive number.")
        for key in ("lr", "weight_decay", "warmup_epochs", "warmup_start_lr"):
            value = getattr(self, key)
            if not (0 <= value < math.inf):
                raise ValueError(f"Optimizer({key}={value}) must not be negative.")
        for key, value in (("momentum", self.momentum), ("betas", self.betas[0]), ("betas", self.betas[1])):
            if not (0 <= value < 1):
                raise ValueError(f"Optimizer({key}={getattr(self, key)}) must lie in [0, 1).")

    def build(
        self,
        modules: Mapping[str, nn.Module],
        probes: Mapping[str, nn.Module],
        *,
        total_batch: int,
        total_steps: int,
        steps_per_epoch: int,
    ) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Build the optimiser and its schedule, which is stepped after each optimiser step.

        Args:
            modules: the parts of the model by name.
            probes: the probes by name; their groups are called ``probe_<name>`` and ``probe_<name>_bias``.
            total_batch: images of one optimiser step, over all processes and all accumulated batches.
            total_steps: optimiser steps of the run.
            steps_per_epoch: optimiser steps of an epoch.

        Returns:
            The optimiser, whose groups carry a ``name``, and the scheduler.

        Raises:
            ValueError: the warm-up is as long as the run, or longer.
        """
        warmup_steps = self.warmup_epochs * steps_per_epoch
        if warmup_steps >= total_steps:
            raise ValueError(
                f"The warm-up of {self.warmup_epochs} epochs of {steps_per_epoch} steps ({warmup_steps} steps) must be "
                f"shorter than the run of {total_steps} steps. HINT: train for more than {self.warmup_epochs} epochs, "
                "or lower `warmup_epochs` of the optimiser."
            )
        groups = [
            group | self._settings(group, total_batch)
            for group in parameter_groups(modules.values(), probes)
            if group["params"]
        ]
        optimizer = (
            Lars(groups, trust_coeff=LARS_TRUST_COEFFICIENT, eps=LARS_EPS, trust_clip=True)
            if self.name == "lars"
            else torch.optim.AdamW(groups)
        )
        factors: list[Callable[[int], float]] = [
            partial(
                warmup_cosine,
                warmup_steps=warmup_steps,
                total_steps=total_steps,
                start_factor=min(1.0, self.warmup_start_lr / group["lr"]) if group["lr"] else 1.0,
            )
            for group in groups
        ]
        return optimizer, LambdaLR(optimizer, factors)

    def reapply(self, optimizer: torch.optim.Optimizer, scheduler: LambdaLR, *, total_batch: int) -> None:
        """Put these settings into an optimiser and a scheduler that were built from them and then restored.

        A checkpoint brings along the rates, decays and momenta of the run that wrote it. What remains of it here is the
        optimiser's state of each parameter and the number of steps done.

        Args:
            optimizer: the restored optimiser, changed in place.
            scheduler: its restored scheduler, changed in place.
            total_batch: images of one optimiser step, over all processes and all accumulated batches.
        """
        for group in optimizer.param_groups:
            group |= self._settings(group, total_batch)
            group["initial_lr"] = group["lr"]
        scheduler.base_lrs = [group["lr"] for group in optimizer.param_groups]
        for group, factor in zip(optimizer.param_groups, scheduler.lr_lambdas, strict=True):
            group["lr"] *= factor(scheduler.last_epoch)
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]

    def _settings(self, group: Mapping[str, Any], total_batch: int) -> dict[str, Any]:
        """Give the settings of the optimiser for a group, whose parameters are all of one kind."""
        is_probe = group["name"].startswith(PROBE_PREFIX)
        settings: dict[str, Any] = {"lr": effective_lr(self.probe_lr if is_probe else self.lr, total_batch)}
        if self.name == "lars":
            is_adapted = group["params"][0].ndim > 1
            settings["momentum"] = self.momentum
            settings["weight_decay"] = self.weight_decay if is_adapted and not is_probe else 0.0
            # Without it timm drops the trust ratio, too, where there is no weight decay.
            settings["always_adapt"] = is_adapted
        else:
            settings["betas"] = self.betas
            settings["weight_decay"] = 0.0 if is_probe else self.weight_decay
        return settings
