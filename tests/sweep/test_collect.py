"""Results as tables."""

from __future__ import annotations

import csv
import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from sweeps import MU, finish, planned, write_sweep

from rectified_lpjepa.sweep.command import sweep


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two values of μ with three seeds each, of which one is not finished."""
    file = write_sweep(
        tmp_path,
        grid={MU: [0, -1], "model.projector": [{"out_dim": 8}]},
        options={"figures.kinds": [1]},
        seeds=[0, 1, 2],
    )
    _, _, plan = planned(file)
    for entry, top1 in zip(plan.entries[:5], (0.2, 0.3, 0.7, 0.5, 0.25), strict=True):
        finish(entry, top1=top1, **({"val/extra": 1.0} if entry.index == 4 else {}))
    return file


def test_there_is_a_row_for_each_point_with_all_that_is_known_of_it(file: Path, tmp_path: Path) -> None:
    sweep(["collect", str(file)])
    rows = table(tmp_path / "runs" / "tiny" / "results.csv")
    assert [row["state"] for row in rows] == ["finished"] * 5 + ["not started"]
    assert [row["seed"] for row in rows] == ["0", "1", "2"] * 2
    assert [row[MU] for row in rows] == ["0", "0", "0", "-1", "-1", "-1"]
    assert [row["val/probe_encoder/top1"] for row in rows] == ["0.2", "0.3", "0.7", "0.5", "0.25", ""]
    assert [row["val/extra"] for row in rows] == ["", "", "", "", "1.0", ""]
    first = rows[0]
    assert first["model.projector"] == '{"out_dim": 8}'
    assert Path(first["run_dir"], "result.json").exists()
    told = {"config": "base", "steps": "8", "hardware": "a machine", "version.torch": "2.0", "restarts": "0"}
    assert told.items() <= first.items()


def test_mean_and_standard_deviation_are_over_the_finished_seeds(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(["collect", str(file), "--out", str(tmp_path / "tables")])
    first, second = table(tmp_path / "tables" / "summary.csv")
    for row, values in ((first, [0.2, 0.3, 0.7]), (second, [0.5, 0.25])):
        assert int(row["seeds"]) == len(values)
        assert math.isclose(float(row["val/probe_encoder/top1 mean"]), np.mean(values))
        assert math.isclose(float(row["val/probe_encoder/top1 std"]), np.std(values, ddof=1))
    assert (second["val/extra mean"], second["val/extra std"]) == ("1.0", "")
    printed = capsys.readouterr().out
    assert "40.0% ± 26.5%" in printed
    assert "0.250 ± 0.000" in printed
    assert len({len(line) for line in printed.splitlines() if "±" in line and "%" in line}) == 1


def test_one_seed_has_no_deviation_and_no_point_needs_to_be_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path, grid={MU: [0, -1]})
    sweep(["collect", str(file)])
    _, _, plan = planned(file)
    finish(plan.entries[0])
    capsys.readouterr()
    sweep(["collect", str(file)])
    lines = capsys.readouterr().out.splitlines()
    (heading,) = (number for number, line in enumerate(lines) if line.split()[:2] == ["mu", "seeds"])
    assert lines[heading + 1].split() == ["0", "1", "50.0%", "25.0%", "0.250", "0.500"]
    assert lines[heading + 2].split() == ["-1", "0"]


def test_parquet_holds_the_same_or_says_what_is_missing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("pyarrow") is not None:
        from pyarrow.parquet import read_table

        sweep(["collect", str(file), "--parquet"])
        rows = read_table(tmp_path / "runs" / "tiny" / "results.parquet").to_pylist()
        assert [row["val/probe_encoder/top1"] for row in rows] == [0.2, 0.3, 0.7, 0.5, 0.25, None]
        assert [row[MU] for row in rows] == [0, 0, 0, -1, -1, -1]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match="needs pyarrow"):
        sweep(["collect", str(file), "--parquet"])
