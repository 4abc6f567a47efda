"""Command lines read strictly: whole option names only, and the nearest name for an unknown one."""

from __future__ import annotations

import argparse
import re
import sys
from typing import NoReturn

from typing_extensions import override

from rectified_lpjepa.commands import nearest


class CommandParser(argparse.ArgumentParser):
    """A parser that takes whole option names only, and offers the nearest name for an unknown one."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(**arguments, allow_abbrev=False)  # type: ignore[arg-type]

    def check_parallel(self, given: argparse.Namespace, file: str) -> None:
        """Exit with a message where ``--parallel`` is below 1, or is asked for on a cluster.

        Args:
            given: what was parsed, with ``parallel`` and ``launcher``.
            file: what its file is called, in which ``resources.max_parallel`` says it for a cluster.
        """
        if given.parallel is None:
            return
        if given.parallel < 1:
            self.error(f"--parallel must be at least 1, got {given.parallel}")
        if given.launcher == "slurm":
            self.error(f"--parallel is for this machine; on a cluster `resources.max_parallel` in the {file} says it")

    @override
    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (-[\w-]*)|invalid choice: '([\w-]+)'", message)
        hint = nearest(unknown[1] or unknown[2], self._names()) if unknown else ""
        print(f"error: {message}{hint}\nTry: {self.prog} --help", file=sys.stderr)  # noqa: T201
        raise SystemExit(2)

    def _names(self) -> list[str]:
        """List the options and choices of this parser and of its commands."""
        names = list(self._option_string_actions)
        for action in self._actions:
            names += action.choices or ()
            parsers = action.choices.values() if isinstance(action.choices, dict) else ()
            names += [name for parser in parsers for name in parser._names()]
        return names
