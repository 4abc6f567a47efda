"""What a run of the command line leaves in its directory."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def checkpoint(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    return loaded
