"""The first losses of a tiny seeded run are known; a change that should not alter numbers must not alter these.

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
# Float32 convolutions and matrix products of other machines sum in another order; 20 steps let that grow to about 1e-4.
TOLERANCE = 2e-3


class _Recorder(Callback):
    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.losses.append({name: float(value) for name, value in outputs["terms"].items()})


def first_losses() -> list[dict[str, float]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = DigitsDataModule(batch_size=64, seed=7)
        model = RectifiedLpJEPA(
            RDMReg(Target(p=1.0, mu=-0.5), Directions("random", 128)),
            backbone=Backbone(kwargs={"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}),
            projector=Projector(hidden_dim=64, out_dim=64),
            optimizer=Optimizer("lars", lr=0.3, probe_lr=0.1, warmup_epochs=0),
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
    for step, (measured, expected) in enumerate(zip(losses, golden, strict=True)):
        assert measured == pytest.approx(expected, rel=TOLERANCE), f"step {step}"


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(first_losses(), indent=1) + "\n")
