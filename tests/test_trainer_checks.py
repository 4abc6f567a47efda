"""Trainers with which the numbers of a run would not be what they are taken for are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tiny_jepa import digits, quiet_trainer, tiny_model

from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.objectives import Directions, RDMReg


def test_training_on_several_processes_needs_the_gathering_strategy() -> None:
    model = tiny_model()
    arguments = {"accelerator": "cpu", "devices": 2, "logger": False, "enable_progress_bar": False}
    model.trainer = Trainer(strategy="ddp", **arguments)
    with pytest.raises(ValueError, match=r"2 processes .* DDPStrategy(?s:.*)HINT: .*--trainer.strategy ddp_all_gather"):
        model.setup("fit")
    with pytest.raises(ValueError, match=r"HINT: .*--model.objective.init_args.matching per_rank"):
        model.setup("fit")
    model.setup("validate")
    model.trainer = Trainer(strategy="ddp_all_gather", **arguments)
    model.setup("fit")
    alone = tiny_model(objective=RDMReg(matching="per_rank"))
    alone.trainer = Trainer(strategy="ddp", **arguments)
    alone.setup("fit")


def test_matching_per_rank_goes_on_with_as_many_processes_only(tmp_path: Path) -> None:
    def model() -> RectifiedLpJEPA:
        return tiny_model(objective=RDMReg(directions=Directions(num=16), matching="per_rank"))

    trainer, path = quiet_trainer(tmp_path), tmp_path / "of-one.ckpt"
    trainer.fit(model(), digits())
    trainer.save_checkpoint(path)
    quiet_trainer(tmp_path, max_epochs=2).fit(model(), digits(), ckpt_path=path)

    checkpoint = torch.load(path, weights_only=True)
    torch.save(checkpoint | {"processes": 2}, tmp_path / "of-two.ckpt")
    with pytest.raises(ValueError, match=r"2 process\(es\) each match .* on 1 .* HINT: .*matching global"):
        quiet_trainer(tmp_path, max_epochs=2).fit(model(), digits(), ckpt_path=tmp_path / "of-two.ckpt")
    quiet_trainer(tmp_path, limit_val_batches=1).validate(model(), digits(), ckpt_path=tmp_path / "of-two.ckpt")
    everything = tiny_model(objective=RDMReg(directions=Directions(num=16)))
    quiet_trainer(tmp_path, max_epochs=2).fit(everything, digits(), ckpt_path=tmp_path / "of-two.ckpt")


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ({}, {"precision": "bf16-true"}, "bf16-mixed"),
        ({"batch_size": 32}, {}, "batches of 24 images and the model was built for 32"),
        ({}, {"max_epochs": -1}, "max_steps"),
    ],
)
def test_settings_that_would_spoil_a_run_are_refused(
    model: dict[str, Any], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        quiet_trainer(tmp_path, **settings).fit(tiny_model(**model), digits())
