"""An experiment on the control of sparsity that was never run: a plain method, and one that obeys the target."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rectified_lpjepa.experiment.conditions import Condition
from rectified_lpjepa.experiment.groups import Point, grouped
from rectified_lpjepa.experiment.verdicts import judge

ENCODER, L0 = "val/probe_encoder/top1", "val/sparsity/l0"
ASKED = {None: (0.6, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01), 0.5: (0.5, 0.25, 0.1, 0.05)}  # by the weight of the axis term
SERIES = {
    f"{name}, p={p:g}": {"axis_weight": weight, "p": p}
    for p in (2.0, 1.0)
    for name, weight in (("plain", None), ("ours", 0.5))
}
FIGURES = (
    {"kind": "l0_over_target", "series": SERIES, "within": 0.02, "relative": 0.15},
    {"kind": "accuracy_over_l0", "metric": ENCODER, "series": SERIES, "title": "The cost of control"},
    {"kind": "accuracy_over_l0", "metric": ENCODER, "series": SERIES, "where": {"p": 2.0}},
)
CONDITIONS = (
    Condition(
        "ours is as sparse as asked for, to .02 or 15 %",
        L0,
        where={"axis_weight": 0.5},
        within=0.02,
        relative=0.15,
        of=f"{L0}_target",
    ),
    Condition(
        "at equal measured ℓ0 ours loses less than half a point, encoder",
        ENCODER,
        where={"axis_weight": 0.5},
        above={"axis_weight": None},
        by=-0.005,
        at_equal=L0,
        over="active_fraction",
    ),
)


def write_control(folder: Path) -> Path:
    """Write ``experiment.json`` of a fake experiment, whose runs left no files, and return the folder."""
    points = [
        made_point(p, weight, asked, seed)
        for p in (2.0, 1.0)
        for weight, fractions in ASKED.items()
        for asked in fractions
        for seed in ((0, 1, 2) if asked in (0.25, 0.1) else (0,))
    ]
    content = {
        "experiment": "14_sparsity_control",
        "number": "14",
        "title": "The sparsity asked for?",
        "question": "Is the sparsity asked for the sparsity obtained, and at what cost?",
        "profile": "cpu",
        "varied": ["p", "active_fraction", "axis_weight"],
        "points": [asdict(point) for point in points],
        "columns": [
            {"metric": ENCODER, "label": "encoder probe", "unit": "%"},
            {"metric": L0, "label": "ℓ0"},
        ],
        "figures": FIGURES,
        "conditions": [asdict(judge(condition, grouped(points))) for condition in CONDITIONS],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.json").write_text(json.dumps(content))
    return folder


def made_point(p: float, weight: float | None, asked: float, seed: int) -> Point:
    """Make up a run: the plain one is denser than asked for, and accuracy rises with the logarithm of ℓ0."""
    random = np.random.default_rng([int(4 * p), int(100 * (weight or 0)), int(1000 * asked), seed])
    l0 = asked + (0.45 if weight is None else 0.04) * math.sqrt(asked) * (1 - asked) * random.normal(1, 0.05) / p
    accuracy = 0.17 + 0.02 * math.log(l0 / 0.2) / math.log(10) - 0.03 * (0.01 / l0) + 0.002 * random.normal()
    values: dict[str, Any] = {"p": p, "active_fraction": asked, "axis_weight": weight}
    values = {name: value for name, value in values.items() if value is not None}
    metrics = {ENCODER: accuracy, L0: l0, f"{L0}_target": asked}
    label = ", ".join(f"{name}={value:g}" for name, value in values.items())
    return Point(f"{label},seed={seed}", label, values, seed, f"points/{label},seed={seed}", 60.0, metrics)
