"""The first losses and gradients of a tiny seeded run.

``python tests/golden_run.py`` prints them. It needs no pytest, so that a container's image can be asked, too.
"""

from __future__ import annotations

import json

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from rectified_lpjepa.data import DigitsDataModule
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.networks import Backbone, Projector
from rectified_lpjepa.objectives import Directions, RDMReg, Target
from rectified_lpjepa.optim import Optimizer

STEPS = 20


class _Recorder(Callback):
    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.norms = {
            f"gradient of {name}": float(torch.stack([p.grad.norm() for p in module.parameters()]).norm())
            for name, module in (("backbone", pl_module.backbone), ("projector", pl_module.projector))
        }

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.losses.append({name: float(value) for name, value in outputs["terms"].items()} | self.norms)


def first_losses() -> list[dict[str, float]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = DigitsDataModule(batch_size=64, seed=7)
        model = RectifiedLpJEPA(
            RDMReg(Target(p=1.0, mu=-0.5), Directions("random", 128)),
            backbone=Backbone(kwargs={"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}),
            projector=Projector(hidden_dim=64, out_dim=64),
            optimizer=Optimizer("adamw", lr=1e-4, probe_lr=0.1, warmup_epochs=0),
            num_classes=data.num_classes,
            image_size=data.image_size,
            in_channels=data.in_channels,
            mean=data.mean,
            std=data.std,
            batch_size=64,
            seed=7,
        )
        recorder = _Recorder()
        trainer = Trainer(
            max_steps=STEPS,
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            callbacks=[recorder],
        )
        trainer.fit(model, data)
        return recorder.losses
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    print(json.dumps(first_losses(), indent=1))
