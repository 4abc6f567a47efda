"""The parser behind the command line: whole option names only, and the nearest known name for an unknown one."""

from __future__ import annotations

import argparse
import difflib
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # documented, but not in its list of names
from lightning.pytorch.cli import LightningArgumentParser
from typing_extensions import override

from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.objectives import Objective
from rectified_lpjepa.recipes import find_config


class Parser(LightningArgumentParser):
    """LightningCLI's parser, with abbreviations refused and the nearest name offered for an unknown one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, allow_abbrev=False)
        if self.prog.startswith("__main__.py"):
            self.prog = self.prog.replace("__main__.py", "rectified-lpjepa", 1)

    @override
    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Add an argument; one that takes a configuration takes the name of a recipe, too."""
        if kwargs.get("action") is ActionConfigFile:
            kwargs |= {"action": _ConfigOrRecipe, "help": "Path of a YAML file, or name of a recipe such as digits."}
        return super().add_argument(*args, **kwargs)

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


class _ConfigOrRecipe(ActionConfigFile):
    """Reads a configuration by path or by the name of a recipe."""

    @override
    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        if ":" not in values:  # with a colon it is itself YAML
            try:
                values = str(find_config(values))
            except FileNotFoundError as error:
                raise argparse.ArgumentError(self, str(error)) from None
        super().__call__(parser, cfg, values, option_string)


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
        return "\n  HINT: give a recipe with `--config`, such as digits"
    unknown = re.findall(r"unrecognized arguments: --([\w.]+)|[Oo]ption '([\w.]+)'|[Kk]ey '([\w.]+)' is not", message)
    hints = []
    for part in (part for match in unknown for path in match for part in path.split(".")):
        near = difflib.get_close_matches(part, names, n=3, cutoff=0.6) if part and part not in names else []
        if near:
            hints.append(f"{part}: did you mean {' or '.join(near)}?")
    return "\n  HINT: " + " ".join(hints) if hints else ""
