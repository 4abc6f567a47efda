"""The program's first look at the command line: help, commands, and what they list."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from rectified_lpjepa.main import main


def test_help_lists_all_commands_without_importing_what_they_need() -> None:
    code = (
        "import sys; from rectified_lpjepa.main import main\ntry: main(['--help'])\nfinally: print(sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, modules = done.stdout.rsplit("\n", 2)[:2]
    for command in ("fit", "validate", "test", "predict", "evaluate", "sweep", "prepare", "benchmark"):
        assert re.search(rf"^  {command} +\w", text, re.MULTILINE), command
    assert "'rectified_lpjepa.main'" in modules
    assert not [name for name in ("torch", "lightning", "numpy") if f"'{name}'" in modules]


def test_without_a_command_there_is_help_and_a_mistyped_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code in (([], 2), (["-h"], 0)):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == code
        assert "commands:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["validat", "--config", "x"])
    assert stop.value.code == 2
    assert "did you mean validate or evaluate?" in capsys.readouterr().err


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
