"""Experiment files for the tests, and the runs that they ask for as if they had been trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from sweeps import BASE, MU, finish

from rectified_lpjepa.experiment.groups import Group, Point
from rectified_lpjepa.experiment.study import Study
from rectified_lpjepa.sweep import launch
from rectified_lpjepa.sweep.manifest import write_plan

ACCURACY, L0 = "val/probe_encoder/top1", "val/sparsity/l0"
CONTENT: dict[str, Any] = {
    "title": "A title",
    "question": "Why?",
    "columns": [{"metric": ACCURACY, "label": "encoder", "unit": "%"}, {"metric": L0, "label": "ℓ0"}],
    "published": [
        {"label": "theirs", "values": {"mu": 0}, "metrics": {ACCURACY: 0.6}, "source": "Table 1", "mark": "†"},
        {"label": "another", "values": {}, "metrics": {ACCURACY: 0.65}, "source": "Table 2", "mark": "‡"},
    ],
    "figures": [{"kind": "bars", "metric": ACCURACY}],
    "conditions": [{"text": "ℓ0 rises", "metric": L0, "trend": "increasing", "over": "mu"}],
    "profiles": {"smoke": {"config": "base.yaml", "grid": {MU: [0, -1]}, "seeds": [0, 1]}},
}


def write_experiment(folder: Path, base: str = BASE, **content: Any) -> Path:
    """Write ``base.yaml`` and ``07_tiny.yaml`` into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "base.yaml").write_text(base)
    file = folder / "07_tiny.yaml"
    file.write_text(yaml.safe_dump({**CONTENT, **content}, sort_keys=False, allow_unicode=True))
    return file


def profile(**content: Any) -> dict[str, Any]:
    """The profiles of a file with the smoke profile changed."""
    return {"smoke": CONTENT["profiles"]["smoke"] | content}


def finished(study: Study, **metrics: float) -> launch.Loaded:
    """Leave what finished runs of all points leave: ℓ0 is .5 + mu / 4, the accuracy .5 and a hundredth of the seed."""
    loaded = launch.load(study.sweep, study.file.parent)
    write_plan(loaded.folder, loaded.plan)
    for entry in loaded.plan.current:
        finish(entry, top1=0.5 + entry.seed / 100, l0=0.5 + entry.options[MU] / 4, **metrics)
        (Path(entry.run_dir) / "summary.json").write_text(json.dumps({"directions": 16}))
    return loaded


def made_group(metric: str, values: list[float], label: str = "", **settings: Any) -> Group:
    """A group of points, one for each value of a metric."""
    points = [Point("id", label, settings, seed, "", 1.0, {metric: value}) for seed, value in enumerate(values)]
    return Group(label, settings, points)
