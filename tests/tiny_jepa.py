"""A model, digits and a trainer so small that a training run takes a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from rectified_lpjepa.callbacks import AtomicCheckpointIO
from rectified_lpjepa.data import DigitsDataModule
from rectified_lpjepa.data.batches import Views
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.networks import Backbone, Projector
from rectified_lpjepa.objectives import Directions, RDMReg, Target
from rectified_lpjepa.optim import Optimizer

BATCH = 24
DIM = 12
CLASSES = 10
TINY_RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
MODULES = ("backbone", "projector")


def tiny_model(model_class: type[RectifiedLpJEPA] = RectifiedLpJEPA, **arguments: Any) -> RectifiedLpJEPA:
    """A ResNet of 16 features for the digits, with probes."""
    defaults = {
        "objective": RDMReg(Target(p=1.0, mu=-0.5), Directions(num=16)),
        "backbone": Backbone(kwargs=TINY_RESNET),
        "projector": Projector(hidden_dim=16, out_dim=DIM),
        "optimizer": Optimizer("adamw", lr=0.08, probe_lr=0.8, warmup_epochs=0),
        "num_classes": CLASSES,
        "image_size": 16,
        "in_channels": 1,
        "mean": [0.3],
        "std": [0.4],
        "batch_size": BATCH,
        "seed": 3,
    }
    return model_class(**(defaults | arguments))


def digits() -> DigitsDataModule:
    return DigitsDataModule(batch_size=BATCH, seed=3)


def quiet_trainer(path: Path, callbacks: list[Callback] | None = None, **arguments: Any) -> Trainer:
    """Two batches of training and no validation, unless told otherwise."""
    defaults = {
        "max_epochs": 1,
        "limit_train_batches": 2,
        "limit_val_batches": 0,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": [AtomicCheckpointIO()],
    }
    return Trainer(default_root_dir=path, callbacks=callbacks, **(defaults | arguments))


class Recorder(Callback):
    """What went in and out of each training step."""

    def __init__(self) -> None:
        self.batches: list[Views] = []
        self.features: list[torch.Tensor] = []
        self.steps: list[int] = []
        self.terms: list[dict[str, torch.Tensor]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.rates: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: RectifiedLpJEPA) -> None:
        pl_module.objective.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, objective: RDMReg, inputs: tuple[torch.Tensor, ...], keywords: dict[str, Any]) -> None:
        self.features.append(inputs[0].detach())
        self.steps.append(keywords["step"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: RectifiedLpJEPA, batch: Views, batch_idx: int) -> None:
        self.batches.append(batch)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: RectifiedLpJEPA, optimizer: Any) -> None:
        self.gradients.append({name: p.grad.clone() for name, p in pl_module.named_parameters()})
        self.rates.append({group["name"]: group["lr"] for group in optimizer.param_groups})

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Views, batch_idx: int) -> None:
        self.terms.append(outputs["terms"])


def state_of_modules(model: RectifiedLpJEPA) -> dict[str, torch.Tensor]:
    """Copies of all weights and running statistics of the network, without the probes."""
    return {name: value.clone() for name, value in model.state_dict().items() if name.startswith(MODULES)}
