"""The program ``rectified-lpjepa``: hands the command line to the command it names, and shows errors as messages.

What a command needs is imported when it is called: PyTorch and Lightning take seconds, which ``--help`` and a mistyped
command need not wait for.
"""

from __future__ import annotations

import difflib
import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

DESCRIPTION = "Pretrain, measure and reproduce Rectified LpJEPA: sparse, non-negative image features."
COMMANDS = {
    "fit": "train, or go on training, and show the result",
    "validate": "evaluate a checkpoint on the validation set",
    "test": "evaluate a checkpoint on the test set",
    "predict": "write the features of a checkpoint to a file",
    "evaluate": "measure the features of a checkpoint, or of a timm model, by one evaluation or all",
    "sweep": "run `fit` for many settings, here or on a cluster, and collect the results",
    "experiment": "answer a question by runs and evaluations, and report beside what is published",
    "prepare": "shrink a folder of images once, for faster reading",
    "export": "write the encoder of a checkpoint as a timm model, with its projector and a card",
    "benchmark": "measure the speed of a part against plain and published-style code",
}
_EVALUATIONS = ("validate", "test", "predict")
_SIGINT = 130  # exit code of a process that was stopped by Ctrl-C, by the shell's convention
_TRACEBACK = "RECTIFIED_LPJEPA_TRACEBACK"


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    return (
        f"usage: rectified-lpjepa COMMAND [OPTIONS]\n\n{DESCRIPTION}\n\ncommands:\n{listed}\n\n"
        "`rectified-lpjepa COMMAND --help` lists the options of a command.\n"
        "Try: rectified-lpjepa fit --config configs/digits.yaml"
    )


def _refuse_unknown_command(arguments: list[str]) -> None:
    """Exit with the nearest names where the first argument is neither a command nor an option."""
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        near = difflib.get_close_matches(arguments[0], COMMANDS, n=2)
        hint = f"\n  HINT: did you mean {' or '.join(near)}?" if near else ""
        message = f"error: there is no command {arguments[0]!r}. Choose one of {', '.join(COMMANDS)}.{hint}"
        print(message, file=sys.stderr)  # noqa: T201
        raise SystemExit(2)


def _with_config_of_checkpoint(arguments: list[str]) -> list[str]:
    """Evaluate a run's checkpoint under the run's own configuration where none is given."""
    if not arguments or arguments[0] not in _EVALUATIONS:
        return arguments
    given = {argument.split("=", 1)[0] for argument in arguments}
    if given & {"--config", "-c", "--help", "-h"} or "--ckpt_path" not in given:
        return arguments
    from rectified_lpjepa.cli import existing

    place = next(i for i, argument in enumerate(arguments) if argument.startswith("--ckpt_path"))
    path = arguments[place].partition("=")[2] or (arguments[place + 1] if place + 1 < len(arguments) else "")
    config = existing(Path(path)).parent.parent / "config.yaml"
    return [arguments[0], "--config", str(config), *arguments[1:]] if config.is_file() else arguments


def _quiet_lightning() -> None:
    """Leave of Lightning's messages those that a user can act on."""
    import lightning.pytorch  # noqa: F401 - it sets the levels of its loggers when it is imported

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 calls older names of torch and jsonargparse.
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    # Where SLURM is installed, every run without srun is warned of; the preflight knows which of them need it.
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    # Taking rows of an array in memory is fastest without workers.
    warnings.filterwarnings("ignore", message=r"The '\w+' does not have many workers")


def _innermost(error: BaseException) -> BaseException:
    """Give the error that jsonargparse has wrapped into a dump of the whole configuration."""
    while error.__cause__ is not None and str(error).startswith("Does not validate against any"):
        error = error.__cause__
    return error


def _is_message(error: Exception) -> bool:
    """Say whether an error is one for the user, of which the message is enough."""
    if isinstance(error, ValueError | TypeError | OSError | FloatingPointError):
        return True
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    return isinstance(error, MisconfigurationException)


def _hint(error: Exception) -> str:
    """Say what to do about an error whose message comes from the system."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "\n  HINT: make room, and start the same command again. A run goes on from its last checkpoint."
    return ""


def _prepare(arguments: list[str]) -> None:
    """Shrink a folder of images; exit with status 130 after Ctrl-C."""
    from jsonargparse import auto_cli

    from rectified_lpjepa.data.prepare import prepare

    try:
        auto_cli(prepare, args=arguments, as_positional=False, prog="rectified-lpjepa prepare")
    except KeyboardInterrupt:
        print("\nstopped; what is done is kept, and the same command goes on", file=sys.stderr)  # noqa: T201
        raise SystemExit(_SIGINT) from None


def _run(arguments: list[str]) -> None:
    if arguments[0] == "sweep":
        from rectified_lpjepa.sweep.command import sweep

        sweep(arguments[1:])
    elif arguments[0] == "evaluate":
        from rectified_lpjepa.evaluation.command import evaluate_command

        evaluate_command(arguments[1:])
    elif arguments[0] == "experiment":
        from rectified_lpjepa.experiment.command import experiment

        experiment(arguments[1:])
    elif arguments[0] == "benchmark":
        from rectified_lpjepa.benchmarks.command import benchmark

        benchmark(arguments[1:])
    elif arguments[0] == "export":
        from rectified_lpjepa.export.command import export_command

        export_command(arguments[1:])
    elif arguments[0] == "prepare":
        _prepare(arguments[1:])
    else:
        from rectified_lpjepa.cli import CLI

        CLI()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: what follows the program's name; by default what the shell gave.

    Raises:
        SystemExit: with status 2 for a wrong command line, 1 for an error with a message, 130, 138 and 143 for a run
            that was stopped by Ctrl-C, SIGUSR1 and SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("--help", "-h"):
        print(_help())  # noqa: T201
        raise SystemExit(0 if given else 2)
    _refuse_unknown_command(given)
    if given[0] != "sweep":
        _quiet_lightning()
    try:
        # Lightning starts further processes with the command line that it finds there.
        sys.argv[1:] = _with_config_of_checkpoint(given)
        _run(sys.argv[1:])
    except Exception as error:
        if os.environ.get(_TRACEBACK) or not _is_message(error):
            raise
        message = f"error: {_innermost(error)}{_hint(error)}\n(set {_TRACEBACK}=1 to see where it comes from)"
        print(message, file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
