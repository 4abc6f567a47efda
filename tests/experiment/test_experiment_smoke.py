"""An experiment of the project itself in its smoke profile: the command of the README, with fewer steps an epoch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rectified_lpjepa.experiment.study import FILE
from rectified_lpjepa.main import main


def test_an_experiment_of_the_project_is_run_and_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shorter = [word for split in ("train", "val") for word in ("--set", f"trainer.limit_{split}_batches=2")]
    main(["experiment", "run", "13", "--root", str(tmp_path), "--parallel", "2", *shorter])
    printed = capsys.readouterr().out
    folder = tmp_path / "experiments" / "13_shift" / "smoke"
    content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    assert [point["values"]["mu"] for point in content["points"]] == [0.0, -1.0]
    columns = {column["metric"] for column in content["columns"] if "imagenet" not in column["metric"]}
    assert any("turned_digits" in metric for metric in columns)
    assert all(columns <= point["metrics"].keys() for point in content["points"])
    assert len(content["conditions"]) == 3
    assert all(verdict["text"] in printed for verdict in content["conditions"])
    assert len(list((folder / "report").glob("*.png"))) == 3
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert content["question"] in page
