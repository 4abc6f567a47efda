"""The directory of a tiny run on the digits, as ``fit`` leaves it: a checkpoint and the configuration of its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tiny_jepa import digits, quiet_trainer, tiny_model


def write_config(path: Path, **init_args: Any) -> None:
    """Write a ``config.yaml`` that names the digits with these arguments."""
    data = {"class_path": "rectified_lpjepa.data.DigitsDataModule", "init_args": init_args}
    path.write_text(yaml.safe_dump({"data": data}))


def write_run(folder: Path, **init_args: Any) -> Path:
    """Train for two steps, write the run into a folder, and return its checkpoint."""
    trainer, data = quiet_trainer(folder, enable_checkpointing=False), digits()
    trainer.fit(tiny_model(mean=data.mean, std=data.std), data)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    trainer.save_checkpoint(checkpoint)
    write_config(folder / "config.yaml", **init_args)
    return checkpoint
