"""The parser behind the command line: whole option names only, and the nearest known name for an unknown one."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser
from typing_extensions import override

from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.objectives import Objective


class Parser(LightningArgumentParser):
    """LightningCLI's parser, with abbreviations refused and the nearest name offered for an unknown one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, allow_abbrev=False)
        if self.prog.startswith("__main__.py"):
            self.prog = self.prog.replace("__main__.py", "rectified-lpjepa", 1)

    @override
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(message + _suggestion(message, self._names()), ex)

    @override
    def print_usage(self, file: Any = None) -> None:
        """Print nothing: the usage of some hundred options would bury the message that follows it."""

    def _names(self) -> set[str]:
        names = {part for action in self._actions for part in action.dest.split(".")} | _parameters(TwoViewDataModule)
        for base in (Objective, TwoViewDataModule):
            for kind in _subclasses(base):
                names |= _parameters(kind)
        return names


def _subclasses(kind: type) -> Iterator[type]:
    child: type
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


def _parameters(kind: type) -> set[str]:
    """Collect the names of a class's parameters, and those of dataclasses among their defaults."""
    names = set()
    for name, parameter in inspect.signature(kind).parameters.items():
        names.add(name)
        if is_dataclass(parameter.default):
            names |= {field.name for field in fields(parameter.default)}
    return names


def _suggestion(message: str, names: set[str]) -> str:
    """Name the nearest known names of what a parser's message says is unknown, and what gives all that is required."""
    if "arguments are required" in message and ".model.objective" in message:
        return "\n  HINT: give a recipe with `--config`, such as configs/digits.yaml"
    unknown = re.findall(r"unrecognized arguments: --([\w.]+)|[Oo]ption '([\w.]+)'|[Kk]ey '([\w.]+)' is not", message)
    hints = []
    for part in (part for match in unknown for path in match for part in path.split(".")):
        near = difflib.get_close_matches(part, names, n=3, cutoff=0.6) if part and part not in names else []
        if near:
            hints.append(f"{part}: did you mean {' or '.join(near)}?")
    return "\n  HINT: " + " ".join(hints) if hints else ""
