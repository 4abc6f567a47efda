"""The program ``rectified-lpjepa``: hands the command line to the command it names, and shows errors as messages.

What a command needs is imported when it is called: PyTorch and Lightning take seconds, which ``--help`` and a mistyped
command need not wait for.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rectified_lpjepa.commands import COMMANDS, PROGRAM, SIGNAL_EXIT, help_text, nearest, version_text

_EVALUATIONS = ("validate", "test", "predict")
_OWN_OPTIONS = ("--help", "-h", "--version")
_LEADING_OPTIONS = ("--config", "-c", "--print_config")  # those that LightningCLI takes before a command
_LIGHT = ("sweep", "completion", "doctor")  # commands that do without Lightning, or import it themselves
_GOING_ON = ("evaluate", "experiment", "prepare", "sweep")  # commands that, after Ctrl-C, find what they have done
_TRACEBACK = "RECTIFIED_LPJEPA_TRACEBACK"


def _refuse_unknown_command(arguments: list[str]) -> None:
    """Exit with the nearest names where the first argument is neither a command nor an option that may stand there."""
    first = arguments[0].partition("=")[0]
    if first in COMMANDS or first in _LEADING_OPTIONS:
        return
    known = [*_OWN_OPTIONS, *_LEADING_OPTIONS] if first.startswith("-") else list(COMMANDS)
    kind = "option" if first.startswith("-") else "command"
    message = f"error: there is no {kind} {first!r}. Choose a command: {', '.join(COMMANDS)}.{nearest(first, known)}"
    print(f"{message}\nTry: {PROGRAM} --help", file=sys.stderr)  # noqa: T201
    raise SystemExit(2)


def _with_config_of_checkpoint(arguments: list[str]) -> list[str]:
    """Evaluate a run's checkpoint under the run's own configuration where none is given."""
    if not arguments or arguments[0] not in _EVALUATIONS:
        return arguments
    given = {argument.split("=", 1)[0] for argument in arguments}
    if given & {"--config", "-c", "--help", "-h"} or "--ckpt_path" not in given:
        return arguments
    from rectified_lpjepa.run import existing_checkpoint

    place = next(i for i, argument in enumerate(arguments) if argument.startswith("--ckpt_path"))
    path = arguments[place].partition("=")[2] or (arguments[place + 1] if place + 1 < len(arguments) else "")
    config = existing_checkpoint(Path(path)).parent.parent / "config.yaml"
    return [arguments[0], "--config", str(config), *arguments[1:]] if config.is_file() else arguments


def _quiet_libraries(arguments: list[str]) -> None:
    """Leave of other libraries' messages those that a user can act on."""
    # Lightning 2.6 calls older names of torch and jsonargparse.
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    # Where SLURM is installed, every run without srun is warned of; the preflight knows which of them need it.
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    # Taking rows of an array in memory is fastest without workers.
    warnings.filterwarnings("ignore", message=r"The '\w+' does not have many workers")
    if _is_light(arguments):
        return
    import lightning.pytorch  # noqa: F401 - it sets the levels of its loggers when it is imported

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _is_light(arguments: list[str]) -> bool:
    """Say whether a command line asks for nothing that trains or evaluates in this process."""
    command, rest = arguments[0], arguments[1:]
    starts_nothing = command == "experiment" and rest[:1] != ["run"]
    return command in _LIGHT or starts_nothing or not {"--help", "-h"}.isdisjoint(rest)


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
    """Shrink a folder of images."""
    from jsonargparse import auto_cli

    from rectified_lpjepa.data.prepare import prepare

    auto_cli(prepare, args=arguments, as_positional=False, prog="rectified-lpjepa prepare")


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
    elif arguments[0] == "doctor":
        from rectified_lpjepa.doctor.command import doctor

        doctor(arguments[1:])
    elif arguments[0] == "completion":
        from rectified_lpjepa.completion import completion

        completion(arguments[1:])
    else:
        from rectified_lpjepa.cli import CLI

        CLI()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: what follows the program's name; by default what the shell gave.

    Raises:
        SystemExit: with one of :data:`~rectified_lpjepa.commands.EXIT_CODES`. Without a command it is 2, after the
            help: a script that lost its command must not go on as if something had been done.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            _dispatch(given)
        finally:
            sys.stdout.flush()  # a reader that has gone is noticed here, and not by the interpreter at its end
    except KeyboardInterrupt:
        _say_interrupted(given)
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        _say_interrupted(given)  # Lightning's evaluations answer Ctrl-C by this, with status 1
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _has_lost_its_reader():
            _end_unread(given)
        if os.environ.get(_TRACEBACK) or not _is_message(error):
            raise
        message = f"error: {_innermost(error)}{_hint(error)}\n(set {_TRACEBACK}=1 to see where it comes from)"
        print(message, file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None


def _dispatch(given: list[str]) -> None:
    if not given or given[0] in _OWN_OPTIONS:
        print(version_text() if given[:1] == ["--version"] else help_text())  # noqa: T201
        raise SystemExit(0 if given else 2)
    _refuse_unknown_command(given)
    _quiet_libraries(given)
    # Lightning starts further processes with the command line that it finds there.
    sys.argv[1:] = _with_config_of_checkpoint(given)
    _run(sys.argv[1:])


def _has_lost_its_reader() -> bool:
    """Say whether the standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _end_unread(given: list[str]) -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would complain at its end
    is_work = bool(given) and given[0] in COMMANDS and not _is_light(given)
    if is_work or given[:2] == ["sweep", "run"]:
        print("stopped: nobody reads the output any more", file=sys.stderr)  # noqa: T201
    raise SystemExit(SIGNAL_EXIT + signal.SIGPIPE) from None


def _say_interrupted(given: list[str]) -> NoReturn:
    more = "; what is done is kept, and the same command goes on" if given and given[0] in _GOING_ON else ""
    print(f"\nstopped{more}", file=sys.stderr)  # noqa: T201
    raise SystemExit(SIGNAL_EXIT + signal.SIGINT) from None
