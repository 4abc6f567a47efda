"""What the commands that train or validate make of their options, without a run."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from rectified_lpjepa.cli import CLI

CONFIGS = Path(__file__).parents[1] / "configs"


class _ParserMadeError(Exception):
    """There is a parser, which is all that is wanted."""


@lru_cache
def training_parser(command: str) -> Any:
    """The parser of a command, which takes a second or more to make; its errors are raised as they are."""
    parsers = []

    def stop(cli: CLI) -> None:
        parsers.append(cli.parser)
        raise _ParserMadeError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["rectified-lpjepa"])
        patch.setattr(CLI, "before_instantiate_classes", stop)
        with pytest.raises(_ParserMadeError):
            CLI([command, "--config", str(CONFIGS / "digits.yaml")])
    parsers[0].exit_on_error = False
    return parsers[0]


def parse_fit(arguments: list[str]) -> Any:
    """The configuration of a ``fit``, by its command line."""
    return training_parser("fit").parse_args(arguments).fit
