"""The README and the pages of the documentation: their code blocks, and the program's parsers to try them on."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import capture_parser
from training_parser import training_parser

from rectified_lpjepa import main as program
from rectified_lpjepa.doctor.command import make_parser as doctor_parser
from rectified_lpjepa.doctor.training import read_training
from rectified_lpjepa.evaluation.command import make_parser
from rectified_lpjepa.experiment.command import parse as parse_experiment
from rectified_lpjepa.experiment.study import Study
from rectified_lpjepa.export.command import parse as parse_export
from rectified_lpjepa.recipes import find_sweep
from rectified_lpjepa.sweep.command import parse as parse_sweep
from rectified_lpjepa.sweep.file import read_sweep

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
TRAININGS = ("fit", "validate", "test", "predict")


class Block(NamedTuple):
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block is the content of, by its first line: ``# name.py``."""
        found = re.match(r"# ([\w/]+\.(?:py|yaml))\b", self.text)
        return found[1] if found else None


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```", PAGES[page], flags=re.DOTALL | re.MULTILINE)]


def commands() -> list[str]:
    """The command lines of all pages, each once."""
    lines = (
        line
        for page in PAGES
        for block in blocks(page)
        if block.language == "bash"
        for line in block.text.replace("\\\n", "").splitlines()
        if line and not line.startswith("#")
    )
    return list(dict.fromkeys(lines))


def files() -> dict[str, str]:
    """The files that pages show whole, by path."""
    return {block.file: block.text for page in PAGES for block in blocks(page) if block.file is not None}


def arguments_of(command: str) -> list[str] | None:
    """The program's arguments, also behind srun, torchrun or a container's options; None for another program's."""
    words = shlex.split(command, comments=True)
    while words and re.match(r"\w+=", words[0]):
        words.pop(0)
    for start in (["rectified-lpjepa"], ["-m", "rectified_lpjepa"], ["python", "train.py"]):
        for place in range(len(words)):
            arguments = words[place + len(start) :]
            is_command = bool(arguments) and arguments[0] in program.COMMANDS
            if words[place : place + len(start)] == start and (place == 0 or is_command):
                return arguments
    return None


def check(arguments: list[str]) -> None:
    """Parse arguments of the program, in a folder that has its configurations, as the program would."""
    command, *options = arguments
    assert command in program.COMMANDS
    if command in TRAININGS:
        if "--config" not in options:  # the run of the example does not exist, so its configuration is not found
            options += ["--config", "configs/digits.yaml"]
        training_parser(command).parse_args([command, *options])
    elif command == "sweep":
        file = find_sweep(parse_sweep(options).file)
        assert read_sweep(file).expand(file.parent)
    elif command == "evaluate":
        _evaluation_parser(options[0]).parse_args(options[1:])
    elif command == "export":
        parse_export(options)
    elif command == "experiment":
        given = parse_experiment(options)
        if given.command != "list":
            assert Study.open(given.name, given.profile, given.root, dict(given.set or [])).load()
    elif command == "doctor":
        _, rest = doctor_parser().parse_known_args(options)
        assert not rest or read_training(rest, {})
    else:
        capture_parser(lambda: program.main(arguments)).parse_args(options)


@lru_cache
def _evaluation_parser(name: str) -> Any:
    return make_parser(name)


def quoted_messages() -> list[str]:
    """What the page on troubleshooting quotes."""
    return re.findall(r"^\* `([^`]+)`:", PAGES["docs/troubleshooting.md"], flags=re.MULTILINE)


@lru_cache
def messages() -> list[str]:
    """All texts in the package's source, with … for what is filled in."""
    return [text for path in sorted((ROOT / "rectified_lpjepa").rglob("*.py")) for text in _texts(path)]


def _texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def is_said(message: str) -> bool:
    """Whether the package's source has a message, in which … stands for anything."""
    pattern = re.compile(".*".join(map(re.escape, message.split("…"))), flags=re.DOTALL)
    return any(pattern.search(text) for text in messages())
