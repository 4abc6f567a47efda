"""In which precision a cpu profile trains where nothing asks for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from studies import CONTENT, finished, write_experiment
from sweeps import BASE, MU

from rectified_lpjepa.experiment.precision import with_precision
from rectified_lpjepa.experiment.study import FILE, Study
from rectified_lpjepa.main import main

PRECISION = "trainer.precision"
PROFILE = CONTENT["profiles"]["smoke"]


def machine(monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool, gpu: bool = False) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("rectified_lpjepa.experiment.precision.has_bfloat16", lambda: bfloat16)


def opened(folder: Path, given: dict[str, Any] | None = None, profile: str = "cpu", base: str = BASE) -> Study:
    file = write_experiment(folder, base, profiles={profile: PROFILE})
    return Study.open(str(file), profile, str(folder / "runs"), given)


@pytest.mark.parametrize(
    ("has", "profile", "given", "launcher", "trained_in"),
    [
        ({"bfloat16": True}, "cpu", {}, "local", "bf16-mixed"),
        ({"bfloat16": True}, "cpu", {"trainer.max_epochs": 1}, "local", "bf16-mixed"),
        ({"bfloat16": True}, "cpu", {PRECISION: "32-true"}, "local", "32-true"),
        ({"bfloat16": False}, "cpu", {}, "local", None),
        ({"bfloat16": True, "gpu": True}, "cpu", {}, "local", None),
        ({"bfloat16": True}, "cpu", {}, "slurm", None),
        ({"bfloat16": True}, "smoke", {}, "local", None),
    ],
)
def test_a_cpu_profile_trains_in_bfloat16_where_the_processor_has_it_and_nothing_asks_for_a_precision(
    has: dict[str, bool],
    profile: str,
    given: dict[str, Any],
    launcher: str,
    trained_in: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine(monkeypatch, **has)
    study = with_precision(opened(tmp_path, given, profile), launcher)
    assert {entry.options.get(PRECISION) for entry in study.load().plan.current} == {trained_in}
    assert {name: study.given[name] for name in given} == given
    is_told = f"`--set {PRECISION}=32-true` trains in float32" in capsys.readouterr().out
    assert is_told == (trained_in == "bf16-mixed")


def test_a_precision_of_the_profile_or_of_its_configuration_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, bfloat16=True)
    configured = opened(tmp_path / "a", base=BASE.replace("trainer: {", "trainer: {precision: 32-true, "))
    assert with_precision(configured) is configured
    file = write_experiment(tmp_path / "b", profiles={"cpu": PROFILE | {"grid": {PRECISION: [32, 64], MU: [0]}}})
    varied = Study.open(str(file), "cpu", str(tmp_path / "b" / "runs"))
    assert with_precision(varied) is varied


@pytest.mark.parametrize("began_in", ["bf16-mixed", "32-true", None])
def test_what_is_started_goes_on_and_is_reported_in_its_precision_on_any_machine(
    began_in: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what is done says the precision, so that the same can be asked for elsewhere."""
    finished(opened(tmp_path, {} if began_in is None else {PRECISION: began_in}))
    for has in ({"bfloat16": True}, {"bfloat16": False}, {"bfloat16": False, "gpu": True}):
        machine(monkeypatch, **has)
        study = with_precision(opened(tmp_path))
        assert study.given.get(PRECISION) == began_in
        loaded = study.load()
        assert not loaded.plan.removed
        assert {status.state for status in loaded.statuses.values()} == {"finished"}
    main(["experiment", "report", str(tmp_path / "07_tiny.yaml"), "--profile", "cpu", "--root", str(tmp_path / "runs")])
    assert "4 points: 4 finished" in capsys.readouterr().out
    command = json.loads((study.folder / FILE).read_text())["command"]
    assert (f"--set {PRECISION}={began_in}" in command) == (began_in is not None)
