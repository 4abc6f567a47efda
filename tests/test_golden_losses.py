"""The first losses and gradients of a tiny seeded run are known; what should not alter numbers must not alter these.

If a change is meant to alter them, run ``python tests/test_golden_losses.py`` and say in the commit why.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from rectified_lpjepa.data import DigitsDataModule
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.networks import Backbone, Projector
from rectified_lpjepa.objectives import Directions, RDMReg, Target
from rectified_lpjepa.optim import Optimizer

GOLDEN = Path(__file__).with_name("golden_losses.json")
STEPS = 20
# Other machines sum float32 products in another order, and training lets the difference grow, the faster the higher the
# learning rate. At this one 20 steps without vector instructions end 7e-4 off in the losses and 3e-2 in the norms of
# the gradients; the first step, before anything has been learned, is 5e-6 off.
FIRST_TOLERANCE, LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 5e-3, 0.1


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


def test_the_first_losses_are_the_golden_ones() -> None:
    losses = first_losses()
    golden = json.loads(GOLDEN.read_text())
    assert len(losses) == len(golden) == STEPS
    assert losses[0] == pytest.approx(golden[0], rel=FIRST_TOLERANCE), "step 0"
    for step, (measured, expected) in enumerate(zip(losses, golden, strict=True)):
        assert measured.keys() == expected.keys()
        for name, value in expected.items():
            tolerance = GRADIENT_TOLERANCE if name.startswith("gradient") else LOSS_TOLERANCE
            assert measured[name] == pytest.approx(value, rel=tolerance), f"{name} at step {step}"


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(first_losses(), indent=1) + "\n")
