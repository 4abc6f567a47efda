"""The commands of the program, and what it says of itself and of names it does not know; without PyTorch."""

from __future__ import annotations

import difflib
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

from rectified_lpjepa import __version__

PROGRAM = "rectified-lpjepa"
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
    "doctor": "show versions, devices and data sets, and look for what would go wrong",
    "completion": "print a script that completes commands and options in bash or zsh",
}
"""The commands, and what each does."""
EXAMPLES = {
    "fit --config digits": "train on scanned digits, without a download",
    "validate --config digits": "evaluate that run",
    "evaluate all --checkpoint runs/NAME/checkpoints/last.ckpt": "measure features by all evaluations",
    "experiment run 02": "answer a question of the paper, small",
    "doctor": "look at this machine first",
}
"""Command lines to begin with, and what each does."""
EXIT_CODES = {
    "0": "done",
    "1": "an error, or a problem that doctor found",
    "2": "a wrong command line",
    "3": "the time of --trainer.max_time is used up; the same command goes on",
    "129, 130, 138, 143": "stopped by SIGHUP (a sweep), Ctrl-C, SIGUSR1 or SIGTERM; the same command goes on",
    "141": "the reader of what it prints, such as head, has ended",
}
"""Exit codes, and what each means."""
OUT_OF_TIME_EXIT = 3
"""The exit code of a training that ``--trainer.max_time`` ended."""
SIGNAL_EXIT = 128
"""Plus the signal: the exit code of a process that ended by it, by the shell's convention."""
_SHOWN_VERSIONS = ("torch", "torchvision", "lightning", "timm")


def help_text() -> str:
    """Say what the program can do: its commands, examples, exit codes."""
    return (
        f"usage: {PROGRAM} COMMAND [OPTIONS]\n\n"
        "Pretrain, measure and reproduce Rectified LpJEPA: sparse, non-negative image features.\n\n"
        f"commands:\n{_listed(COMMANDS)}\n\n"
        f"examples:\n{_listed({f'{PROGRAM} {line}': what for line, what in EXAMPLES.items()})}\n\n"
        f"`{PROGRAM} COMMAND --help` lists the options of a command, `{PROGRAM} --version` what is installed.\n"
        f"`{PROGRAM} completion --help` says how the shell completes them.\n\n"
        f"exit codes:\n{_listed(EXIT_CODES)}"
    )


def version_text() -> str:
    """Say which versions are installed, without importing them."""
    parts = [f"{name} {installed_version(name) or '(not installed)'}" for name in _SHOWN_VERSIONS]
    return f"{PROGRAM} {__version__}\n{', '.join(parts)}, Python {platform.python_version()}"


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, as its installer noted it; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def say(text: str, file: TextIO | None = None) -> None:
    """Print text of a command, by default to the standard output, and at once, so that a log has it in its order."""
    print(text, file=file, flush=True)


def aligned(rows: Sequence[Sequence[str]], left: int = 3) -> str:
    """Lay out rows in columns, of which the first ``left`` are set to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Give a hint with the known names that are nearest to an unknown one, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=2)
    return f"\n  HINT: did you mean {' or '.join(near)}?" if near else ""


def _listed(entries: dict[str, str]) -> str:
    width = max(map(len, entries))
    return "\n".join(f"  {name:<{width}}  {what}" for name, what in entries.items())
