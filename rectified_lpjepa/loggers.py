"""The loggers of a run: TensorBoard and CSV, continued without doubled or missing steps when the run goes on.

Others are added by ``--trainer.logger``; one of Weights & Biases goes on, too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from rectified_lpjepa.commands import installed_version
from rectified_lpjepa.files import write_text
from rectified_lpjepa.identity import identity_hash


class TableLogger(Logger):
    """A table of everything that is logged, ``metrics.csv``: a row for each time, a column for each name.

    A run that goes on keeps the rows of the steps before, which Lightning's own CSV logger would delete. A row is on
    its way to the disk as soon as it is logged; a row that brings new names rewrites the file as a whole, to a
    temporary name first.

    Args:
        folder: where the table lies.
        first_step: optimiser step with which the run goes on; rows from there on, left by a stopped run, are dropped.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        super().__init__()
        self._file = folder / "metrics.csv"
        self._rows = _rows_before(self._file, first_step)
        self._columns: list[str] = list(dict.fromkeys(name for row in self._rows for name in row))
        self._is_begun = False

    @property
    @override
    def name(self) -> str:
        return "csv"

    @property
    @override
    def version(self) -> int:
        return 0

    @override
    @rank_zero_only
    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Keep none: the configuration lies beside the table."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"step": str(step), **{name: str(value) for name, value in metrics.items()}}
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        self._columns += new
        if new or not self._is_begun:
            write_text(self._file, _text(self._rows, self._columns, header=True))
            self._is_begun = True
        else:
            with self._file.open("a", newline="", encoding="utf-8") as file:
                file.write(_text([row], self._columns))


def run_loggers(directory: Path, first_step: int) -> list[Logger]:
    """Make the loggers of a run directory; what a stopped run logged after its last checkpoint is dropped in both.

    Args:
        directory: the run directory; the logs lie in its ``tensorboard`` and ``csv`` folders.
        first_step: optimiser step with which the run goes on, 0 for a new run.
    """
    board = TensorBoardLogger(directory, name="", version="tensorboard", default_hp_metric=False, purge_step=first_step)
    return [board, TableLogger(directory / "csv", first_step)]


def check_logger(setting: Any) -> None:
    """Refuse a logger of which the package is missing, before anything is loaded.

    Args:
        setting: ``trainer.logger`` of a configuration.

    Raises:
        ValueError: it is Weights & Biases, which is not installed.
    """
    if "WandbLogger" in str(setting) and installed_version("wandb") is None:
        raise ValueError(
            "trainer.logger is a WandbLogger, but Weights & Biases is not installed. HINT: "
            "`pip install 'rectified-lpjepa[wandb]'`, or leave `--trainer.logger` out: TensorBoard and CSV are always "
            "written."
        )


def of_this_run(logger: Logger, setting: Mapping[str, Any], directory: Path, identity: Mapping[str, Any]) -> Logger:
    """Let a logger of Weights & Biases belong to a run: where the run goes on, its curves do.

    Its id is the hash of the run's identity, its name that of the run directory, in which its files lie; the identity
    is shown as its configuration. What the setting says otherwise is kept.

    Args:
        logger: any logger; all but those of Weights & Biases are returned as they are.
        setting: from which the logger was made, with ``init_args`` and ``dict_kwargs``.
        directory: the run directory.
        identity: the run's identity.
    """
    if not isinstance(logger, WandbLogger):
        return logger
    given = {**(setting.get("init_args") or {}), **(setting.get("dict_kwargs") or {})}
    if given.get("save_dir") == ".":  # Lightning's default
        del given["save_dir"]
    own = {"id": identity_hash(identity), "name": directory.name, "save_dir": str(directory), "config": dict(identity)}
    return type(logger)(**(own | {name: value for name, value in given.items() if value is not None}))


def logged_values(directory: Path, name: str) -> list[float]:
    """Return what a run has logged under a name, in its order; nothing where there is no table.

    Args:
        directory: the run directory.
        name: such as ``train/loss``, which is logged once in an epoch.
    """
    file = directory / "csv" / "metrics.csv"
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as rows:
        return [float(row[name]) for row in csv.DictReader(rows) if row.get(name)]


def _rows_before(file: Path, first_step: int) -> list[dict[str, str]]:
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]  # a killed process may have been writing the last one
    rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(whole)]
    return [row for row in rows if int(row["step"]) < first_step]


def _text(rows: list[dict[str, str]], columns: list[str], *, header: bool = False) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
