"""The command line of ``experiment``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import finished, write_experiment
from sweeps import MU

from rectified_lpjepa.experiment.command import parse
from rectified_lpjepa.experiment.file import find
from rectified_lpjepa.experiment.study import FILE, Study
from rectified_lpjepa.main import main

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "experiments").glob("*.yaml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu", "1"], "did you mean run?"),
        (["run", "1", "--profil", "cpu"], "did you mean --profile"),
        (["run", "1", "--profile", "cqu"], "did you mean cpu?"),
        (["run", "1", "--set", "x"], "it must be OPTION=VALUE"),
        (["run", "1", "--parallel", "0"], "at least 1, got 0"),
        (["run", "1", "--parallel", "2", "--launcher", "slurm"], "resources.max_parallel"),
        (["report"], "NN"),
    ],
)
def test_a_wrong_command_line_is_refused_with_the_nearest_name(
    arguments: list[str], message: str, refusal: Callable[..., str]
) -> None:
    assert message in refusal("experiment", *arguments, code=2)


def test_given_options_have_the_type_that_a_file_would_give_them() -> None:
    texts = ["a.b=1", "a.c=1e-3", "a.d=x/y.npz", "a.e=true", "a.f={p: 1.0}", "a.g=a=b", "a.h=[", "data=a.B"]
    given = parse(["run", "1", *(word for text in texts for word in ("--set", text))])
    values = [1, 1e-3, "x/y.npz", True, {"p": 1.0}, "a=b", "[", "a.B"]
    assert dict(given.set) == dict(zip([text.partition("=")[0] for text in texts], values, strict=True))


def test_experiments_are_found_in_the_working_directory_or_else_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refusal: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["experiment", "list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == SHIPPED
    assert find("02").stem == "02_sparsity"
    write_experiment(tmp_path / "experiments")
    main(["experiment", "list"])
    assert capsys.readouterr().out.split() == ["07_tiny", "A", "title"]
    main(["experiment", "status", "7"])
    assert "4 points: 4 not started" in capsys.readouterr().out
    main(["experiment", "run", "7", "--dry-run", "--set", "data.init_args.path=a.npz"])
    printed = capsys.readouterr().out
    assert f"--data.init_args.path=a.npz --{MU}=-1 --seed_everything=1" in printed
    assert not (tmp_path / "runs").exists()
    assert "There are 07_tiny" in refusal("experiment", "status", "8")


def test_a_report_is_made_of_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_experiment(tmp_path)
    root = str(tmp_path / "runs")
    loaded = finished(Study.open(str(file), "smoke", root))
    shutil.rmtree(loaded.plan.current[0].run_dir)
    main(["experiment", "report", str(file), "--root", root])
    printed = capsys.readouterr().out
    assert "✓ ℓ0 rises" in printed
    folder = tmp_path / "runs" / "experiments" / "07_tiny" / "smoke"
    assert (folder / FILE).exists()
    for line in printed.splitlines()[-2:]:
        assert Path(line.partition(": ")[2]).is_file(), line
    assert not Path(loaded.plan.current[0].run_dir).exists()


def test_a_failed_run_is_an_error_and_an_unmet_condition_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    condition = {"text": "unmet", "metric": "val/sparsity/l0", "at_least": 0.9}
    file = write_experiment(tmp_path, conditions=[condition])
    root = str(tmp_path / "runs")
    finished(Study.open(str(file), "smoke", root))
    main(["experiment", "run", str(file), "--root", root])
    assert "✗ unmet" in capsys.readouterr().out
    for code in (1, 143):
        monkeypatch.setattr("rectified_lpjepa.sweep.launch.run", lambda *_, code=code, **__: code)
        with pytest.raises(SystemExit) as stop:
            main(["experiment", "run", str(file), "--root", root])
        assert stop.value.code == code
        assert ("unmet" in capsys.readouterr().out) is (code == 1)  # after a signal nothing more is done
