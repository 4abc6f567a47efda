"""The table of a run: what it keeps, and what it drops, when the run goes on."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rectified_lpjepa.loggers import TableLogger


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def log(folder: Path, first_step: int, *steps: tuple[int, dict[str, float]]) -> None:
    table = TableLogger(folder, first_step)
    for step, metrics in steps:
        table.log_metrics(metrics, step)


def test_rows_are_there_as_soon_as_they_are_logged_and_new_names_get_columns(tmp_path: Path) -> None:
    table = TableLogger(tmp_path, 0)
    for number in range(3):
        table.log_metrics({"loss": 0.1 * number}, number)
        assert len(rows(tmp_path)) == number + 1
    table.log_metrics({"top1": 1 / 3, "epoch": 0}, 2)
    assert rows(tmp_path)[1:] == [
        {"step": "1", "loss": "0.1"},
        {"step": "2", "loss": "0.2"},
        {"step": "2", "top1": repr(1 / 3), "epoch": "0"},
    ]


def test_a_run_that_goes_on_drops_what_comes_again_and_keeps_the_rest_to_the_last_digit(tmp_path: Path) -> None:
    log(tmp_path, 0, (0, {"loss": 1 / 3}), (5, {"loss": 2.0, "top1": 0.1}), (6, {"loss": 1.0}), (7, {"loss": 0.5}))
    before = (tmp_path / "metrics.csv").read_text()
    table = TableLogger(tmp_path, 6)
    assert (tmp_path / "metrics.csv").read_text() == before  # until there is something to add
    table.log_metrics({"loss": 1.5}, 6)
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [("0", repr(1 / 3)), ("5", "2.0"), ("6", "1.5")]


@pytest.mark.parametrize("torn", ["1", "12,0.", "12,0.25,"])
def test_a_line_that_a_killed_process_was_writing_is_dropped(tmp_path: Path, torn: str) -> None:
    log(tmp_path, 0, (10, {"loss": 1.0}), (11, {"loss": 0.5}))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(torn)
    log(tmp_path, 100, (100, {"loss": 0.25}))
    assert [row["step"] for row in rows(tmp_path)] == ["10", "11", "100"]
