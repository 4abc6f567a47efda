"""The command ``sweep``: many runs of ``fit`` from one file, on this machine or on a cluster."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rectified_lpjepa.commands import say
from rectified_lpjepa.recipes import find_sweep
from rectified_lpjepa.sweep import launch
from rectified_lpjepa.sweep.arguments import CommandParser
from rectified_lpjepa.sweep.collect import result_rows, summary_rows, summary_table, write_csv, write_parquet
from rectified_lpjepa.sweep.file import read_sweep
from rectified_lpjepa.sweep.manifest import read_manifest

_PROGRAM = "rectified-lpjepa sweep"
_FILE_HELP = "the sweep file, or the name of one that comes with the package, such as sweeps/digits_mu"


def sweep(arguments: Sequence[str]) -> None:
    """Run ``sweep run|status|collect FILE``.

    Args:
        arguments: what follows ``sweep`` on the command line.

    Raises:
        SystemExit: with status 2 for a wrong command line, 1 where points failed, 128 and the signal after a signal.
        FileNotFoundError: there is neither such a file nor such a recipe.
        ValueError: the file is wrong, or the cluster refuses.
    """
    given = parse(arguments)
    if given.command == "point":
        _point(given.manifest, given.index, given.options)
        return
    file = find_sweep(given.file)
    settings, place = read_sweep(file), file.parent
    if given.command == "run" and not given.dry_run:
        code = launch.run(settings, place, launcher=given.launcher, parallel=given.parallel or 1)
        if code:
            raise SystemExit(code)
        return
    loaded = launch.load(settings, place)
    if given.command == "run":
        launch.dry_run(loaded, given.launcher, given.parallel or 1)
    elif given.command == "status":
        launch.show(loaded)
    else:
        _collect(loaded, given.out, given.parquet)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exit with help, or with status 2 and a message where it is wrong."""
    given = make_parser().parse_args(arguments)
    if given.command == "run":
        given.parser.check_parallel(given, "sweep file")
    return given


def make_parser() -> CommandParser:
    """Make the parser of the command and of what follows it."""
    parser = CommandParser(prog=_PROGRAM, description="Many runs of `fit` from one file, here or on a cluster.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    run = commands.add_parser("run", help="run what is not finished; may be started again at any time")
    run.add_argument("file", type=Path, metavar="FILE", help=_FILE_HELP)
    run.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where to run (default: local)")
    run.set_defaults(parser=run)
    run.add_argument("--parallel", type=int, metavar="N", help="points at a time on this machine (default: 1)")
    run.add_argument("--dry-run", action="store_true", help="print what would be done, write nothing")
    status = commands.add_parser("status", help="show each point's state, epoch, accuracy and ℓ0")
    status.add_argument("file", type=Path, metavar="FILE", help=_FILE_HELP)
    collect = commands.add_parser("collect", help="write the results as tables, show means over seeds")
    collect.add_argument("file", type=Path, metavar="FILE", help=_FILE_HELP)
    collect.add_argument("--out", type=Path, help="folder to write to (default: the sweep's folder)")
    collect.add_argument("--parquet", action="store_true", help="write results.parquet, too (needs pyarrow)")
    point = commands.add_parser("point", help="run one line of a manifest: what job.sh calls")
    point.add_argument("manifest", type=Path, metavar="MANIFEST", help="manifest.jsonl in the sweep's folder")
    point.add_argument("index", type=int, metavar="INDEX", help="number of the point")
    point.add_argument("options", nargs=argparse.REMAINDER, metavar="OPTIONS", help="further options of `fit`")
    return parser


def _collect(loaded: launch.Loaded, out: Path | None, parquet: bool) -> None:
    entries, varied = loaded.plan.current, loaded.sweep.varied
    target = out if out is not None else loaded.folder.path
    rows, summary = result_rows(entries, loaded.statuses), summary_rows(entries, loaded.statuses, varied)
    say(launch.heading(loaded))
    say(f"mean ± standard deviation over seeds\n\n{summary_table(summary, varied)}\n")
    for name, table in (("results", rows), ("summary", summary)):
        write_csv(target / f"{name}.csv", table)
        say(str(target / f"{name}.csv"))
    if parquet:
        write_parquet(target / "results.parquet", rows)
        say(str(target / "results.parquet"))


def _point(manifest: Path, index: int, options: list[str]) -> None:
    """Become the process that runs a line of a manifest."""
    entries = read_manifest(manifest)
    if not 0 <= index < len(entries):
        raise ValueError(f"{manifest} has no point {index}: it has {len(entries)} points, counted from 0.")
    command = [sys.executable, "-m", "rectified_lpjepa", *entries[index].argv, *options]
    if os.environ.get("SLURM_PROCID", "0") == "0":
        say(f"$ {shlex.join(command)}")
    os.execv(command[0], command)
