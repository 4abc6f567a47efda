"""The scripts for the shells: what bash offers, without anything of the program running, and that it is accepted."""

from __future__ import annotations

import inspect
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from fresh_interpreter import run_alone
from jsonargparse import capture_parser

from rectified_lpjepa.benchmarks.command import benchmark
from rectified_lpjepa.cli import CLI
from rectified_lpjepa.commands import COMMANDS, EXAMPLES, PROGRAM
from rectified_lpjepa.completion import NAMES, OPTIONS
from rectified_lpjepa.data.prepare import prepare
from rectified_lpjepa.evaluation.command import make_parser
from rectified_lpjepa.evaluation.registry import EVALUATIONS
from rectified_lpjepa.export.command import parse as parse_export
from rectified_lpjepa.recipes import find_config

ROOT = Path(__file__).parents[1]


def script(shell: str) -> str:
    text, modules = run_alone("completion", shell)
    assert "torch" not in modules
    return f"{text}\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_commands_options_choices_and_files(tmp_path: Path) -> None:
    (tmp_path / "complete.bash").write_text(script("bash"))
    expected = {
        f"{PROGRAM} ": set(COMMANDS),
        f"{PROGRAM} va": {"validate"},
        f"{PROGRAM} fit --trainer.max": {"--trainer.max_epochs", "--trainer.max_time"},
        f"{PROGRAM} fit --config configs/dig": {"configs/digits.yaml"},
        f"{PROGRAM} fit --data.root con": {"configs"},
        f"{PROGRAM} fit --config configs/digits.yaml --data.down": {"--data.download"},
        f"{PROGRAM} sweep ": {"run", "status", "collect", "point"},
        f"{PROGRAM} sweep run configs/sweeps/digits_m": {"configs/sweeps/digits_mu.yaml"},
        f"{PROGRAM} sweep run --launcher s": {"slurm"},
        f"{PROGRAM} experiment run 02 --profile c": {"cpu"},
        f"{PROGRAM} evaluate li": {"linear"},
        f"{PROGRAM} evaluate linear --check": {"--checkpoint"},
        f"{PROGRAM} doctor --data": {"--datasets"},
        f"{PROGRAM} completion ": {"bash", "zsh"},
    }
    lines = [f"PATH={shlex.quote(str(tmp_path / 'nothing'))}", f"source {tmp_path / 'complete.bash'}"]
    for line in expected:
        words = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
        lines += [
            f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1} COMPREPLY=()",
            f"_shtab_rectified_lpjepa {PROGRAM} {shlex.quote(words[-1])} {shlex.quote(words[-2])}",
            'echo "${COMPREPLY[*]}"',
        ]
    done = subprocess.run(
        [shutil.which("bash") or "", "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
    answers = [set(line.split()) for line in done.stdout.splitlines()]
    assert dict(zip(expected, answers, strict=True)) == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
def test_zsh_takes_its_script(tmp_path: Path) -> None:
    file = tmp_path / f"_{PROGRAM}"
    file.write_text(script("zsh"))
    code = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -D; print ${{_comps[{PROGRAM}]}}"
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == file.name
    assert subprocess.run(["zsh", "-n", str(file)], check=False).returncode == 0


def test_what_is_listed_here_is_what_the_commands_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [PROGRAM])
    parser = capture_parser(lambda: CLI([]))
    for command in ("fit", "validate", "test", "predict"):
        sub = parser._subcommands_action._name_parser_map[command]
        names = sub._names()
        whole = set(sub._option_string_actions)
        for option in OPTIONS[command]:
            is_of_a_class = option.startswith(("--data.", "--model.objective."))
            assert set(option[2:].split(".")) <= names if is_of_a_class else option in whole, option
    assert set(OPTIONS["evaluate"]) <= set(make_parser("knn")._option_string_actions)
    assert sorted(NAMES["evaluate"]) == sorted([*EVALUATIONS, "all"])  # evaluations are registered as they are imported
    assert [option[2:] for option in OPTIONS["prepare"]] == [*inspect.signature(prepare).parameters]
    assert parse_export(["--checkpoint", "a", "--out", "b", "--onnx"])
    assert set(capture_parser(lambda: benchmark([]))._subcommands_action.choices) == set(NAMES["benchmark"])


def test_the_examples_of_the_help_exist() -> None:
    for line in EXAMPLES:
        command, *rest = line.split()
        assert command in COMMANDS
        if "--config" in rest:
            assert find_config(rest[rest.index("--config") + 1]).is_file()
