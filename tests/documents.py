"""The README, the documentation and what they lead to: their code, and the program's parsers to try it on."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import yaml
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
DOCUMENTS = PAGES | {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        *(ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / ".github" / "pull_request_template.md"),
        *sorted((ROOT / "experiments" / "results").rglob("*.md")),
    ]
}
"""The pages, and the other texts of the repository: their links and commands are checked, their Python is not run."""
TRAININGS = ("fit", "validate", "test", "predict")
INSTALLED = ("tensorboard", "torchrun")
SHELL = ("exit", "export", "if", "mkdir", "source", "unset")
FOREIGN = ("apptainer build", "docker build", "docker compose cp", "docker compose up", "docker save", "enroot import")
FOREIGN += ("salloc",)
"""What programs do that need not be here. Those that start ours (srun, `docker run`) are none: ours is looked at."""
_EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
_SERVICES = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))["services"]


class Block(NamedTuple):
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block is the content of, by its first line: ``# name.py``."""
        found = re.match(r"# ([\w/]+\.(?:py|yaml))\b", self.text)
        return found[1] if found else None


def blocks(page: str) -> list[Block]:
    text = DOCUMENTS[page]
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)]


def prose(page: str) -> str:
    """A text without its code blocks."""
    return re.sub(r"^```.*?^```", "", DOCUMENTS[page], flags=re.DOTALL | re.MULTILINE)


def quoted(page: str) -> list[str]:
    """What a text quotes in a line, as `this`."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def commands() -> list[str]:
    """The command lines of all texts, each once."""
    lines = (
        line
        for page in DOCUMENTS
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
    words = _words(command)
    for place, word in enumerate(words):
        begins = [
            words[: place + 1] == ["rectified-lpjepa"],
            words[place - 1 : place + 1] in (["-m", "rectified_lpjepa"], ["python", "train.py"]),
        ]
        # Only where a command follows: an image has the program's name, too.
        hands_over = word == "rectified-lpjepa" or word.endswith(".sif") or ("compose" in words and word in _SERVICES)
        if any(begins) or (hands_over and words[place + 1 : place + 2] and words[place + 1] in program.COMMANDS):
            return words[place + 1 :]
    return None


def _words(command: str) -> list[str]:
    """The words of a command line, without the variables that are set before it."""
    words = shlex.split(command, comments=True)
    while words and re.match(r"\w+=", words[0]):
        words.pop(0)
    return words


def check_line(line: str) -> None:
    """Check a command line as well as can be without running it; a line of no known kind is an error."""
    arguments, words = arguments_of(line), _words(line)
    spoken = [word for word in words if not word.startswith("-")]
    if arguments is not None:
        check(arguments)
    elif "-c" in words and "python" in words[: words.index("-c")]:
        check_python(words[words.index("-c") + 1])
    elif words[:1] == ["make"]:
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif words[:2] == ["pip", "install"]:
        for requirement in words[2:]:
            check_requirement(requirement)
    elif words and (words[0] in INSTALLED or words[0].startswith(".venv/bin/")):
        assert Path(sys.executable).with_name(Path(words[0]).name).exists(), words[0]
        assert all((ROOT / word).exists() for word in spoken if word.startswith("tests/")), line
    elif words and words[0] not in SHELL:
        files = [file for option, file in pairwise(words) if option == "--file"]
        assert all((ROOT / file).exists() for file in files), line
        spoken = [word for word in spoken if word not in files]
        starts = {" ".join(spoken[:number]) for number in (1, 2, 3)}
        assert starts & set(FOREIGN), (
            f"neither ours, nor make's, nor the shell's, nor known as another program's: {line}"
        )


def check_python(code: str) -> None:
    """Compile Python that is not run, and look for what it imports."""
    compile(code, "<text>", "exec")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def check_requirement(requirement: str) -> None:
    """Check what pip is asked for: our wheel, ourselves with extras that there are, or a package that is named here."""
    found = re.fullmatch(r"rectified-lpjepa(?:\[([\w,]+)\])?", requirement)
    if found is not None:
        assert set((found[1] or "dev").split(",")) <= _EXTRAS.keys(), requirement
    else:
        assert requirement in ("dist/rectified_lpjepa-*.whl", "py-spy"), requirement


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
    """All texts in the package's source but docstrings, with … for what is filled in."""
    return [text for path in sorted((ROOT / "rectified_lpjepa").rglob("*.py")) for text in _texts(path)]


def _texts(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # Texts that stand for themselves are said by nobody.
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def is_said(message: str) -> bool:
    """Whether the package's source has a message, in which … stands for anything."""
    pattern = re.compile(".*".join(map(re.escape, message.split("…"))), flags=re.DOTALL)
    return any(pattern.search(text) for text in messages())
