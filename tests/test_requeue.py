"""What a run says to SLURM, with a stand-in for its command."""

from __future__ import annotations

from pathlib import Path

import pytest

from rectified_lpjepa.slurm import requeue_job


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a command on the path that notes its arguments."""
    command = tmp_path / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    return command


def test_outside_a_job_nothing_is_asked_for(scontrol: Path, tmp_path: Path) -> None:
    assert requeue_job() is None
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({"SLURM_JOB_ID": "17"}, "17"),
        ({"SLURM_JOB_ID": "19", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}, "17_3"),
    ],
)
def test_the_job_is_queued_again(
    scontrol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], job: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert requeue_job() == f"job {job} is queued again"
    assert (tmp_path / "calls").read_text() == f"requeue {job}\n"


@pytest.mark.parametrize(
    ("script", "reason"), [("echo Access denied >&2; exit 1", "Access denied"), (None, "No such file")]
)
def test_a_refusal_says_what_to_do(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, reason: str
) -> None:
    if script is None:
        scontrol.unlink()
        monkeypatch.setenv("PATH", str(scontrol.parent))
    else:
        scontrol.write_text(f"#!/bin/sh\n{script}\n")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    answer = requeue_job() or ""
    assert "was not queued again" in answer
    assert reason in answer
    assert "scontrol requeue 17" in answer
