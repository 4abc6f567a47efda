"""The command ``experiment``: answer a question by one command, and compare with what is published."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rectified_lpjepa.commands import aligned, say
from rectified_lpjepa.experiment.file import PROFILES, listed, read_experiment
from rectified_lpjepa.sweep import launch
from rectified_lpjepa.sweep.arguments import CommandParser
from rectified_lpjepa.sweep.yaml_file import read_value

if TYPE_CHECKING:
    from rectified_lpjepa.experiment.study import Study

_PROGRAM = "rectified-lpjepa experiment"


def experiment(arguments: Sequence[str]) -> None:
    """Run ``experiment list|run|status|report``.

    Args:
        arguments: what follows ``experiment`` on the command line.

    Raises:
        SystemExit: with status 2 for a wrong command line, 1 where a run or an evaluation failed, 128 and the signal
            after a signal.
        ValueError: the experiment is wrong, or the cluster refuses.
    """
    given = parse(arguments)
    if given.command == "list":
        say(aligned([[file.stem, read_experiment(file).title] for file in listed()]))
        return
    # These import PyTorch, which the list can do without.
    from rectified_lpjepa.experiment.precision import with_precision
    from rectified_lpjepa.experiment.study import Study

    study = Study.open(given.name, given.profile, given.root, dict(given.set or []))
    study = with_precision(study, given.launcher if given.command == "run" else None)
    if given.command == "status":
        launch.show(study.load())
        return
    if given.command == "run" and given.dry_run:
        launch.dry_run(study.load(), given.launcher, given.parallel or 1)
        return
    code = _run(study, given) if given.command == "run" else 0
    if code <= 1:  # not after a signal
        _report(study, Path(given.root))
    if code:
        raise SystemExit(code)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exit with help, or with status 2 and a message where it is wrong."""
    given = make_parser().parse_args(arguments)
    if given.command == "run":
        given.parser.check_parallel(given, "experiment file")
    return given


def make_parser() -> CommandParser:
    """Make the parser of the command and of what follows it."""
    parser = CommandParser(prog=_PROGRAM, description="Each published result by one command.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    commands.add_parser("list", help="list the experiments")
    run = commands.add_parser("run", help="train, evaluate, report; may be started again at any time")
    status = commands.add_parser("status", help="show how the runs are doing")
    report = commands.add_parser("report", help="report on what is there, and run nothing")
    for command in (run, status, report):
        command.add_argument("name", metavar="NN", help="number, name or file of the experiment")
        command.add_argument("--profile", choices=PROFILES, default="smoke", help="how large (default: smoke)")
        command.add_argument("--root", default="runs", help="folder of all runs (default: runs)")
        command.add_argument(
            "--set",
            action="append",
            type=_setting,
            metavar="OPTION=VALUE",
            help="a further option of `fit`, for all runs",
        )
    run.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where to run (default: local)")
    run.set_defaults(parser=run)
    run.add_argument("--parallel", type=int, metavar="N", help="runs at a time on this machine (default: 1)")
    run.add_argument("--dry-run", action="store_true", help="print what would be run, write nothing")
    run.add_argument("--datasets", default="datasets", help="folder of torchvision's data sets (default: datasets)")
    run.add_argument("--download", action="store_true", help="fetch data sets that evaluations name")
    return parser


def _setting(text: str) -> tuple[str, Any]:
    option, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(
            f"it must be OPTION=VALUE, such as data.init_args.path=images.npz, got {text!r}"
        )
    try:
        return option, read_value(value)
    except yaml.YAMLError:
        return option, value


def _run(study: Study, given: argparse.Namespace) -> int:
    from rectified_lpjepa.evaluation.datasets import DataSource
    from rectified_lpjepa.experiment.run import run

    source = DataSource(given.datasets, given.download)
    return run(study, launcher=given.launcher, parallel=given.parallel or 1, source=source)


def _report(study: Study, root: Path) -> None:
    from rectified_lpjepa.experiment.report import write_index, write_report
    from rectified_lpjepa.experiment.summary import summary

    told = summary(study.write())
    say(f"\n{told}\n\nreport: {write_report(study.folder)}\nall experiments and runs: {write_index(root)}")
