"""Sweep files for the tests, and run directories as ``fit`` leaves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from rectified_lpjepa.sweep.file import Sweep, read_sweep
from rectified_lpjepa.sweep.manifest import Entry, Folder, Plan, make_plan, write_plan

BASE = """
seed_everything: 7
trainer: {max_epochs: 4, devices: auto}
model: {optimizer: {lr: 0.1}}
data: {class_path: rectified_lpjepa.data.DigitsDataModule, init_args: {batch_size: 32, num_workers: 0}}
"""
MU, P = "model.objective.init_args.target.mu", "model.objective.init_args.target.p"


def write_sweep(folder: Path, base: str = BASE, **content: Any) -> Path:
    """Write ``base.yaml`` and ``sweep.yaml`` into a folder; the sweep's own folder is ``<folder>/runs/tiny``."""
    (folder / "base.yaml").write_text(base)
    file = folder / "sweep.yaml"
    settings = {"name": "tiny", "config": "base.yaml", "root": str(folder / "runs"), **content}
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    return file


def planned(file: Path) -> tuple[Sweep, Folder, Plan]:
    """Expand a sweep file and write its manifest."""
    sweep = read_sweep(file)
    folder = Folder(Path(sweep.root) / sweep.name)
    plan = make_plan(sweep, file.parent, folder)
    write_plan(folder, plan)
    return sweep, folder, plan


def finish(entry: Entry, top1: float = 0.5, l0: float = 0.25, **metrics: float) -> None:
    """Leave what a finished run leaves."""
    directory = Path(entry.run_dir)
    directory.mkdir(parents=True)
    (directory / "starts.jsonl").write_text('{"step": 0}\n')
    values = {
        "val/probe_encoder/top1": top1,
        "val/probe_projector/top1": top1 / 2,
        "val/sparsity/l0": l0,
        "val/sparsity/l0_target": 0.5,
        **metrics,
    }
    result = {
        "metrics": values,
        "epochs": 4,
        "steps": 8,
        "seconds": 1.5,
        "hardware": "a machine",
        "versions": {"torch": "2.0"},
    }
    (directory / "result.json").write_text(json.dumps(result))
