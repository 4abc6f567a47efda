"""Every command and snippet of the README runs, or at least parses; so do the trainings of docs/cluster.md."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from jsonargparse import capture_parser

from rectified_lpjepa.cli import CLI
from rectified_lpjepa.doctor.command import make_parser as doctor_parser
from rectified_lpjepa.doctor.training import read_training
from rectified_lpjepa.evaluation.command import make_parser
from rectified_lpjepa.experiment.command import parse as parse_experiment
from rectified_lpjepa.experiment.study import Study
from rectified_lpjepa.export.command import parse as parse_export
from rectified_lpjepa.main import main
from rectified_lpjepa.sweep.command import parse
from rectified_lpjepa.sweep.file import read_sweep

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines() if line]
CLUSTER = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").replace("\\\n", "")
TRAININGS = re.findall(r"^[^`#\n]*rectified.lpjepa fit ([^`\n]+)$", CLUSTER, flags=re.MULTILINE)
SNIPPETS = [block for language, block in BLOCKS if language == "python"]


class ParsedError(Exception):
    """The command line was accepted."""


def test_there_is_something_to_test() -> None:
    assert len(COMMANDS) >= 12
    assert len(SNIPPETS) >= 1
    assert len(TRAININGS) == 4
    assert not re.search(r"@[A-Z]+@", README)


@pytest.mark.parametrize("command", [*COMMANDS, *(f"rectified-lpjepa fit {options}" for options in TRAININGS)])
def test_a_command_is_accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = shlex.split(command)
    if program == "make":
        subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
    elif program == "rectified-lpjepa" and arguments[0] in ("benchmark", "prepare"):
        monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
        assert capture_parser(lambda: main(arguments)).parse_args(arguments[1:])
    elif program == "rectified-lpjepa" and arguments[0] == "sweep":
        file = ROOT / parse(arguments[1:]).file
        assert read_sweep(file).expand(file.parent)
    elif program == "rectified-lpjepa" and arguments[0] == "doctor":
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
        _, options = doctor_parser().parse_known_args(arguments[1:])
        assert not options or read_training(options, {})
    elif program == "rectified-lpjepa" and arguments[0] == "evaluate":
        assert make_parser(arguments[1]).parse_args(arguments[2:])
    elif program == "rectified-lpjepa" and arguments[0] == "export":
        assert parse_export(arguments[1:])
    elif program == "rectified-lpjepa" and arguments[0] == "experiment":
        monkeypatch.chdir(ROOT)
        given = parse_experiment(arguments[1:])
        if given.command != "list":
            Study.open(given.name, given.profile, given.root, dict(given.set or []))
    elif program == "rectified-lpjepa":

        def stop(cli: CLI) -> None:
            raise ParsedError

        monkeypatch.chdir(ROOT)
        monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
        monkeypatch.setattr(CLI, "before_instantiate_classes", stop)
        if "--config" not in arguments:  # the run of the example does not exist, so its configuration is not found
            arguments += ["--config", "configs/digits.yaml"]
        with pytest.raises(ParsedError):
            main(arguments)
    else:
        assert Path(sys.executable).with_name(program).exists()


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs(snippet: str) -> None:
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    assert float(names["loss"]) > 0  # type: ignore[arg-type]


def test_the_run_of_the_example_has_the_name_that_fit_gives_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    monkeypatch.setattr(CLI, "_run_subcommand", lambda cli, subcommand: None)
    cli = CLI(["fit", "--config", str(ROOT / "configs" / "digits.yaml"), "--trainer.accelerator", "cpu"])
    assert set(re.findall(r"runs/digits-\w+", README)) == {str(cli.directory.path)}
