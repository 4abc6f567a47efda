"""The program ``rectified-lpjepa``: hands the command line to the command it names, and shows errors as messages."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException

from rectified_lpjepa.benchmarks.command import benchmark
from rectified_lpjepa.cli import CLI, existing
from rectified_lpjepa.data.prepare import prepare_command

_EVALUATIONS = ("validate", "test", "predict")
_TRACEBACK = "RECTIFIED_LPJEPA_TRACEBACK"


def _with_config_of_checkpoint(arguments: list[str]) -> list[str]:
    """Evaluate a run's checkpoint under the run's own configuration where none is given."""
    if not arguments or arguments[0] not in _EVALUATIONS:
        return arguments
    given = {argument.split("=", 1)[0] for argument in arguments}
    if given & {"--config", "-c", "--help", "-h"} or "--ckpt_path" not in given:
        return arguments
    place = next(i for i, argument in enumerate(arguments) if argument.startswith("--ckpt_path"))
    path = arguments[place].partition("=")[2] or (arguments[place + 1] if place + 1 < len(arguments) else "")
    config = existing(Path(path)).parent.parent / "config.yaml"
    return [arguments[0], "--config", str(config), *arguments[1:]] if config.is_file() else arguments


def _quiet_lightning() -> None:
    """Leave of Lightning's messages those that a user can act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 calls older names of torch and jsonargparse.
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    # Taking rows of an array in memory is fastest without workers.
    warnings.filterwarnings("ignore", message=r"The '\w+' does not have many workers")


def _innermost(error: BaseException) -> BaseException:
    """Give the error that jsonargparse has wrapped into a dump of the whole configuration."""
    while error.__cause__ is not None and str(error).startswith("Does not validate against any"):
        error = error.__cause__
    return error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: what follows the program's name; by default what the shell gave.

    Raises:
        SystemExit: with status 2 for a wrong command line, 1 for an error with a message, 130 and 143 for a run that
            was stopped by Ctrl-C and by SIGTERM.
    """
    _quiet_lightning()
    try:
        # Lightning starts further processes with the command line that it finds there.
        sys.argv[1:] = _with_config_of_checkpoint(list(sys.argv[1:] if arguments is None else arguments))
        if sys.argv[1:2] == ["benchmark"]:
            benchmark(sys.argv[2:])
        elif sys.argv[1:2] == ["prepare"]:
            prepare_command(sys.argv[2:])
        else:
            CLI()
    except (ValueError, TypeError, FileNotFoundError, FloatingPointError, MisconfigurationException) as error:
        if os.environ.get(_TRACEBACK):
            raise
        message = f"error: {_innermost(error)}\n(set {_TRACEBACK}=1 to see where it comes from)"
        print(message, file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
