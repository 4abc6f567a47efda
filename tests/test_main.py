"""The program's first look at the command line: help, commands, and what they list."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import lightning
import pytest
import torch
from fresh_interpreter import run_alone

from rectified_lpjepa import __version__
from rectified_lpjepa import main as program
from rectified_lpjepa.commands import COMMANDS, EXAMPLES, EXIT_CODES
from rectified_lpjepa.main import main


def test_help_lists_all_commands_without_importing_what_they_need() -> None:
    text, modules = run_alone("--help")
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", text, re.MULTILINE), command
    assert not [part for part in (*EXAMPLES, *EXIT_CODES) if part not in text]
    assert "rectified_lpjepa.main" in modules
    assert modules.isdisjoint({"torch", "lightning", "numpy"})


def test_without_a_command_there_is_help_and_a_mistyped_one_is_refused(
    capsys: pytest.CaptureFixture[str], refusal: Callable[..., str]
) -> None:
    for arguments, code in (([], 2), (["-h"], 0)):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == code
        assert "commands:" in capsys.readouterr().out
    for mistyped, near in (("validat", "validate or evaluate"), ("--versoin", "--version")):
        assert f"did you mean {near}?" in refusal(mistyped, "--config", "x", code=2)


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["experiment", "list"], ["sweep", "--help"], ["completion", "--help"], ["doctor", "--help"]],
)
def test_light_commands_import_no_pytorch(arguments: list[str]) -> None:
    text, modules = run_alone(*arguments)
    assert text
    assert modules.isdisjoint({"torch", "lightning"})


def test_the_version_is_that_of_the_installed_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert f"rectified-lpjepa {__version__}\n" in printed
    assert f"torch {torch.__version__.partition('+')[0]}, " in printed
    assert f", lightning {lightning.__version__}, " in printed


def _interrupt(_: list[str]) -> None:
    raise KeyboardInterrupt


def _interrupt_as_lightning(_: list[str]) -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


@pytest.mark.parametrize("command", [_interrupt, _interrupt_as_lightning])
def test_ctrl_c_ends_every_command_by_the_shells_convention(
    monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str], command: Callable[[list[str]], None]
) -> None:
    monkeypatch.setattr(program, "_run", command)
    assert "stopped; what is done is kept, and the same command goes on" in refusal("evaluate", "all", code=130)
    assert "goes on" not in refusal("benchmark", "loss", code=130)


@pytest.mark.parametrize("line", ["--version", "completion bash", "export"])
def test_a_reader_that_has_seen_enough_is_no_error(line: str) -> None:
    # The last one stands for a command that has worked for long, and prints.
    lines = ["from rectified_lpjepa import main", f"main.main({line.split()})"]
    if line == "export":
        lines.insert(1, "main._run = lambda _: print('done')")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-c", "\n".join(lines)]
        ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    said = "stopped: nobody reads the output any more\n" if line == "export" else ""
    assert (ended.returncode, ended.stderr) == (141, said)


def test_another_pipe_that_breaks_is_an_error(monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]) -> None:
    def broken(_: list[str]) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(program, "_run", broken)
    monkeypatch.setattr(program, "_has_lost_its_reader", lambda: False)
    assert "error: [Errno 32] Broken pipe" in refusal("doctor")


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_a_command_lists_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--trainer.max_epochs", "--model.optimizer.lr", "--run.dir", "--data"):
        assert option in printed
    assert ("--ckpt_path" in printed) == (command != "fit")
