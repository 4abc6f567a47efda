"""The command line of ``sweep``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sweeps import MU, write_sweep

from rectified_lpjepa.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["statis", "x.yaml"], "did you mean status?"),
        (["run", "x.yaml", "--paralel", "2"], "did you mean --parallel"),
        (["run", "x.yaml", "--launcher", "slurmm"], "did you mean slurm?"),
        (["run", "x.yaml", "--parallel", "0"], "at least 1, got 0"),
        (["run", "x.yaml", "--parallel", "2", "--launcher", "slurm"], "resources.max_parallel"),
        (["run"], "FILE"),
        ([], "COMMAND"),
    ],
)
def test_a_wrong_command_line_is_refused_with_the_nearest_name(
    arguments: list[str], message: str, refusal: Callable[..., str]
) -> None:
    assert message in refusal("sweep", *arguments, code=2)


def test_a_wrong_file_is_a_message(tmp_path: Path, refusal: Callable[..., str]) -> None:
    for file in (tmp_path / "none.yaml", write_sweep(tmp_path, gird={})):
        assert str(file) in refusal("sweep", "status", str(file))


def test_a_dry_run_shows_points_commands_and_threads_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3})
    main(["sweep", "run", str(write_sweep(tmp_path, grid={MU: [0, -0.5]})), "--dry-run", "--parallel", "2"])
    printed = capsys.readouterr().out
    assert "2 points: 2 not started" in printed
    assert f"--{MU}=-0.5 --seed_everything=7 --run.dir=" in printed
    assert "2 at a time, with OMP_NUM_THREADS=2 | OMP_NUM_THREADS=2" in printed
    assert not (tmp_path / "runs").exists()
