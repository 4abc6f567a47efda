"""What is said of a point, from the files that its run leaves."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from fresh_interpreter import run_alone
from sweeps import MU, finish, planned, write_sweep

from rectified_lpjepa.sweep.command import sweep
from rectified_lpjepa.sweep.status import Status, look, status_table

TABLE = """\
epoch,step,train/loss,val/probe_encoder/top1,val/probe_projector/top1,val/sparsity/l0,val/sparsity/l0_target
0,3,4.0,,,,
0,3,,0.25,0.125,0.75,0.5
1,7,3.0,,,,
1,7,,0.5,0.25,0.625,0.5
2,11,2.0,,,,
"""


@pytest.fixture
def one(tmp_path: Path):
    """A point, its folder, and how it is doing."""
    _, folder, plan = planned(write_sweep(tmp_path, grid={MU: [-1.0]}))
    (entry,) = plan.current
    folder.logs.mkdir()

    def status(queue: dict[int, str] | None = None) -> Status:
        return look(folder, [entry], queue or {})[0]

    return entry, folder, status


def test_a_point_without_files_is_not_started_unless_it_is_queued(one) -> None:
    _, _, status = one
    assert status() == Status("not started")
    assert status({0: "queued"}).state == "queued"


def test_a_finished_point_has_its_result(one) -> None:
    entry, _, status = one
    finish(entry, top1=0.75)
    found = status({0: "running"})  # its job is about to end
    assert (found.state, found.epoch, found.epochs, found.restarts) == ("finished", 4, 4, 0)
    assert found.metrics["val/probe_encoder/top1"] == 0.75


def test_a_run_in_progress_is_known_by_its_lock_and_shows_its_last_values(one) -> None:
    entry, _, status = one
    directory = Path(entry.run_dir)
    (directory / "csv").mkdir(parents=True)
    (directory / "csv" / "metrics.csv").write_text(TABLE + "7,31,,0.")  # a line that is just being written
    (directory / "config.yaml").write_text("trainer: {max_epochs: 8}")
    (directory / "starts.jsonl").write_text('{"step": 0}\n{"step": 3}\n{"step": 9}\n')
    with (directory / "running.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = status()
    assert (found.state, found.epoch, found.epochs, found.restarts) == ("running", 3, 8, 2)
    assert found.metrics == {
        "val/probe_encoder/top1": 0.5,
        "val/probe_projector/top1": 0.25,
        "val/sparsity/l0": 0.625,
        "val/sparsity/l0_target": 0.5,
    }
    assert status().state == "stopped"  # the lock is free, and no failure is told
    line = status_table([entry], {0: found}).splitlines()[1].split()
    assert line == ["0", entry.id, "running", "3/8", "50.0%", "25.0%", "0.625", "0.500", "2"]


@pytest.mark.parametrize("name", ["{id}.log", "77_0.out"])
@pytest.mark.parametrize("code", [1, 137, 3, 129, 130, 138, 143])
def test_how_a_start_ended_is_the_last_line_of_its_log(one, name: str, code: int) -> None:
    state = "failed" if code in (1, 137) else "stopped"
    entry, folder, status = one
    log = folder.logs / name.format(id=entry.id)
    log.write_text(
        f"$ command\nerror: old\nexit code 1\n$ command\nx\nerror: it broke\n  HINT: mend it\n\nexit code {code}\n"
    )
    found = status()
    assert found.state == state
    if state == "failed":
        assert found.error == ("error: it broke", "  HINT: mend it", f"exit code {code}")
        shown = status_table([entry], {0: found})
        assert "error: it broke" in shown
        assert str(log) in shown
    assert status({0: "queued"}).state == "queued"
    with log.open("a") as file:
        file.write("$ command\nEpoch 1/4\n")
    assert status().state == "stopped"


def test_without_a_message_the_end_of_the_log_is_the_error(one) -> None:
    entry, folder, status = one
    lines = [f"line {number}" for number in range(50)]
    (folder.logs / f"{entry.id}.log").write_text("\n".join(["$ command", *lines, "exit code 137"]))
    assert status().error == (*lines[-12:], "exit code 137")


def test_the_logs_of_other_points_are_not_mixed_up(one) -> None:
    _, folder, status = one
    (folder.logs / "70_10.out").write_text("exit code 1\n")
    (folder.logs / "other.log").write_text("exit code 1\n")
    assert status().state == "not started"


def test_status_needs_neither_pytorch_nor_a_manifest(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, grid={MU: [0.0, -1.0]})
    text, modules = run_alone("sweep", "status", str(file))
    assert "2 points: 2 not started" in text
    assert "mu=-1,seed=7" in text
    assert modules.isdisjoint({"torch", "lightning", "numpy", "jsonargparse"})
    assert not (tmp_path / "runs").exists()


def test_points_that_left_the_file_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, plan = planned(write_sweep(tmp_path, grid={MU: [0.0, -1.0]}))
    sweep(["status", str(write_sweep(tmp_path, grid={MU: [-1.0, -2.0]}))])
    printed = capsys.readouterr().out
    assert f"not in the file any more, kept: {plan.entries[0].id}" in printed
    assert "new: mu=-2,seed=7" in printed
