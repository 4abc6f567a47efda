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
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: True)
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
        ({"bfloat16": True}, "cpu", {"trainer": {"precision": "32-true"}}, "local", None),
        ({"bfloat16": False}, "cpu", {}, "local", None),
        ({"bfloat16": True, "gpu": True}, "cpu", {}, "local", None),
        ({"bfloat16": True}, "cpu", {}, "slurm", None),
        ({"bfloat16": True}, "cpu", {}, None, None),
        ({"bfloat16": True}, "smoke", {}, "local", None),
    ],
)
def test_a_cpu_profile_trains_in_bfloat16_where_the_processor_has_it_and_nothing_asks_for_a_precision(
    has: dict[str, bool],
    profile: str,
    given: dict[str, Any],
    launcher: str | None,
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
    assert with_precision(configured, "local") is configured
    file = write_experiment(tmp_path / "b", profiles={"cpu": PROFILE | {"grid": {PRECISION: [32, 64], MU: [0]}}})
    varied = Study.open(str(file), "cpu", str(tmp_path / "b" / "runs"))
    assert with_precision(varied, "local") is varied


def test_a_command_chooses_for_what_it_starts_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not for what is only looked at, and not for a cluster."""
    machine(monkeypatch, bfloat16=True)
    opened(tmp_path)
    common = [str(tmp_path / "07_tiny.yaml"), "--profile", "cpu", "--root", str(tmp_path / "runs")]
    for command, chooses in {
        ("run", "--dry-run"): True,
        ("run", "--dry-run", "--launcher", "slurm"): False,
        ("status",): False,
    }.items():
        main(["experiment", command[0], *common, *command[1:]])
        assert (f"--{PRECISION}=bf16-mixed" in capsys.readouterr().out) == chooses


GIVEN: list[dict[str, Any]] = [{}, {PRECISION: "bf16-mixed"}, {PRECISION: "32-true"}, {PRECISION: None}]


@pytest.mark.parametrize("began", GIVEN)
def test_what_is_started_goes_on_and_is_reported_in_its_precision_on_any_machine(
    began: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it says so where that is slow; what is written names the precision."""
    finished(opened(tmp_path, began))
    for has in ({"bfloat16": True}, {"bfloat16": False}, {"bfloat16": False, "gpu": True}):
        machine(monkeypatch, **has)
        study = with_precision(opened(tmp_path), "local")
        assert study.given == began
        is_slow = began.get(PRECISION) == "bf16-mixed" and has == {"bfloat16": False}
        assert ("begins them anew in float32" in capsys.readouterr().out) == is_slow
        loaded = study.load()
        assert not loaded.plan.removed
        assert {status.state for status in loaded.statuses.values()} == {"finished"}
    main(["experiment", "report", str(tmp_path / "07_tiny.yaml"), "--profile", "cpu", "--root", str(tmp_path / "runs")])
    assert "4 points: 4 finished" in capsys.readouterr().out
    command = json.loads((study.folder / FILE).read_text())["command"]
    assert (PRECISION in command) == (PRECISION in began)
