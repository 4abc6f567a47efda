"""The loggers of a run: TensorBoard and CSV, continued without doubled steps when the run goes on."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


def run_loggers(directory: Path, first_step: int) -> list[Logger]:
    """Make the loggers of a run directory.

    Lightning's CSV logger deletes what an earlier start left, and TensorBoard shows steps twice that a stopped run did
    after its last checkpoint; here the rows before ``first_step`` are kept and the later ones dropped in both.

    Args:
        directory: the run directory; the logs lie in its ``tensorboard`` and ``csv`` folders.
        first_step: optimiser step with which the run goes on, 0 for a new run.
    """
    kept = _take_rows(directory / "csv", first_step) or []
    table = CSVLogger(directory, name="", version="csv")
    if kept:
        table.experiment.metrics.extend(kept)
        table.experiment.save()
    board = TensorBoardLogger(
        directory, name="", version="tensorboard", default_hp_metric=False, purge_step=first_step or None
    )
    return [board, table]


@rank_zero_only
def _take_rows(folder: Path, first_step: int) -> list[dict[str, float]]:
    """Read the rows before ``first_step`` and clear the folder for the logger."""
    file = folder / "metrics.csv"
    rows: list[dict[str, float]] = []
    if file.exists():
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                if int(row["step"]) < first_step:
                    numbers = {key: value for key, value in row.items() if value}
                    rows.append({key: (int if key in ("step", "epoch") else float)(v) for key, v in numbers.items()})
    shutil.rmtree(folder, ignore_errors=True)
    return rows
