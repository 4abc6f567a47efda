"""The command ``sweep``: many runs of ``fit`` from one file, on this machine or on a cluster."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from typing_extensions import override

from rectified_lpjepa.sweep import slurm
from rectified_lpjepa.sweep.collect import result_rows, summary_rows, summary_table, write_csv, write_parquet
from rectified_lpjepa.sweep.file import Sweep, read_sweep
from rectified_lpjepa.sweep.local import LocalLauncher, environments, launch_options
from rectified_lpjepa.sweep.manifest import Entry, Folder, Plan, make_plan, read_manifest, write_plan
from rectified_lpjepa.sweep.status import Status, count, look, status_table
from rectified_lpjepa.sweep.yaml_file import nearest

_PROGRAM = "rectified-lpjepa sweep"
_TO_RUN = ("not started", "stopped", "failed")


class _Parser(argparse.ArgumentParser):
    """A parser that takes whole option names only, and offers the nearest name for an unknown one."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(**arguments, allow_abbrev=False)  # type: ignore[arg-type]

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


class _Loaded(NamedTuple):
    """A sweep file, and what is known of its points."""

    sweep: Sweep
    folder: Folder
    plan: Plan
    statuses: dict[int, Status]


def sweep(arguments: Sequence[str]) -> None:
    """Run ``sweep run|status|collect FILE``.

    Args:
        arguments: what follows ``sweep`` on the command line.

    Raises:
        SystemExit: with status 2 for a wrong command line, 1 where points failed, 128 and the signal after a signal.
        ValueError: the file is wrong, or the cluster refuses.
    """
    given = parse(arguments)
    if given.command == "point":
        _point(given.manifest, given.index, given.options)
    elif given.command == "run":
        _run(given.file, given.launcher, given.parallel or 1, given.dry_run)
    elif given.command == "status":
        _status(given.file)
    else:
        _collect(given.file, given.out, given.parquet)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exit with help, or with status 2 and a message where it is wrong."""
    parser = _Parser(prog=_PROGRAM, description="Many runs of `fit` from one file, here or on a cluster.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    run = commands.add_parser("run", help="run what is not finished; may be started again at any time")
    run.add_argument("file", type=Path, metavar="FILE", help="the sweep file")
    run.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where to run (default: local)")
    run.add_argument("--parallel", type=int, metavar="N", help="points at a time on this machine (default: 1)")
    run.add_argument("--dry-run", action="store_true", help="print what would be done, write nothing")
    status = commands.add_parser("status", help="show each point's state, epoch, accuracy and ℓ0")
    status.add_argument("file", type=Path, metavar="FILE", help="the sweep file")
    collect = commands.add_parser("collect", help="write the results as tables, show means over seeds")
    collect.add_argument("file", type=Path, metavar="FILE", help="the sweep file")
    collect.add_argument("--out", type=Path, help="folder to write to (default: the sweep's folder)")
    collect.add_argument("--parquet", action="store_true", help="write results.parquet, too (needs pyarrow)")
    point = commands.add_parser("point", help="run one line of a manifest: what job.sh calls")
    point.add_argument("manifest", type=Path, metavar="MANIFEST", help="manifest.jsonl in the sweep's folder")
    point.add_argument("index", type=int, metavar="INDEX", help="number of the point")
    point.add_argument("options", nargs=argparse.REMAINDER, metavar="OPTIONS", help="further options of `fit`")
    given = parser.parse_args(arguments)
    if given.command == "run" and given.parallel is not None:
        if given.parallel < 1:
            run.error(f"--parallel must be at least 1, got {given.parallel}")
        if given.launcher == "slurm":
            run.error("--parallel is for this machine; on a cluster `resources.max_parallel` in the sweep file says it")
    return given


def _load(file: Path, *, needs_queue: bool = False) -> _Loaded:
    """Read a sweep file, and look how its points are doing."""
    settings = read_sweep(file)
    folder = Folder(Path(settings.root) / settings.name)
    plan = make_plan(settings, file.parent, folder)
    try:
        queue = slurm.queue(folder)
    except ValueError as error:
        if needs_queue:
            raise
        _say(f"warning: what is queued is not known: {error}\n")
        queue = {}
    return _Loaded(settings, folder, plan, look(folder, plan.current, queue))


# ---------------------------------------------------------------------------------------------------------- commands


def _run(file: Path, launcher: str, parallel: int, dry_run: bool) -> None:
    if dry_run:
        loaded = _load(file)
        _say(_heading(loaded))
        _print_dry_run(loaded, launcher, parallel)
        return
    settings = read_sweep(file)
    with Folder(Path(settings.root) / settings.name).locked():  # so that no point is submitted twice
        loaded = _load(file, needs_queue=launcher == "slurm")
        write_plan(loaded.folder, loaded.plan)
        _say(_heading(loaded))
        todo = _todo(loaded)
        if launcher == "slurm":
            _submit(loaded, todo)
            return
    if not todo:
        _say("nothing to run")
        _say(status_table(loaded.plan.current, loaded.statuses))
        return
    code = LocalLauncher(loaded.folder, parallel, loaded.sweep.resources).run(todo, loaded.plan.current)
    raise SystemExit(code)


def _submit(loaded: _Loaded, todo: list[Entry]) -> None:
    if not todo:
        _say("nothing to submit")
        return
    script, note = _job_script(loaded)
    if note:
        _say(note)
    indices = [entry.index for entry in todo]
    job = slurm.submit(loaded.folder, script, indices, loaded.sweep.resources.max_parallel)
    _say(f"submitted {len(todo)} points as job {job}; output goes to {loaded.folder.logs}")


def _status(file: Path) -> None:
    loaded = _load(file)
    _say(_heading(loaded))
    _say(status_table(loaded.plan.current, loaded.statuses))


def _collect(file: Path, out: Path | None, parquet: bool) -> None:
    loaded = _load(file)
    entries, varied = loaded.plan.current, loaded.sweep.varied
    target = out if out is not None else loaded.folder.path
    rows, summary = result_rows(entries, loaded.statuses), summary_rows(entries, loaded.statuses, varied)
    _say(_heading(loaded))
    _say(f"mean ± standard deviation over seeds\n\n{summary_table(summary, varied)}\n")
    for name, table in (("results", rows), ("summary", summary)):
        write_csv(target / f"{name}.csv", table)
        _say(str(target / f"{name}.csv"))
    if parquet:
        write_parquet(target / "results.parquet", rows)
        _say(str(target / "results.parquet"))


def _point(manifest: Path, index: int, options: list[str]) -> None:
    """Become the process that runs a line of a manifest."""
    entries = read_manifest(manifest)
    if not 0 <= index < len(entries):
        raise ValueError(f"{manifest} has no point {index}: it has {len(entries)} points, counted from 0.")
    command = [sys.executable, "-m", "rectified_lpjepa", *entries[index].argv, *options]
    if os.environ.get("SLURM_PROCID", "0") == "0":
        _say(f"$ {shlex.join(command)}")
    sys.stdout.flush()
    os.execv(command[0], command)


# ----------------------------------------------------------------------------------------------------- what is printed


def _todo(loaded: _Loaded) -> list[Entry]:
    return [entry for entry in loaded.plan.current if loaded.statuses[entry.index].state in _TO_RUN]


def _heading(loaded: _Loaded) -> str:
    plan = loaded.plan
    lines = [f"{loaded.sweep.name} in {loaded.folder.path}: {count(loaded.statuses.values())}"]
    if plan.added and len(plan.added) < len(plan.entries):
        lines.append(f"new: {', '.join(entry.id for entry in plan.added)}")
    if plan.removed:
        lines.append(f"not in the file any more, kept: {', '.join(entry.id for entry in plan.removed)}")
    return "\n".join([*lines, ""])


def _job_script(loaded: _Loaded) -> tuple[str, str]:
    """Give the job script, and a note where it is one that was edited."""
    path = loaded.folder.job_script
    written = slurm.job_script(loaded.sweep.name, loaded.sweep.resources, loaded.folder, Path.cwd())
    present = path.read_text(encoding="utf-8") if path.exists() else written
    if not slurm.is_edited(present):
        return written, ""
    return present, f"{path} was edited and is used as it is. HINT: delete it to have it written from the sweep file."


def _print_dry_run(loaded: _Loaded, launcher: str, parallel: int) -> None:
    todo = _todo(loaded)
    _say(status_table(loaded.plan.current, loaded.statuses))
    _say("\ncommands:" if todo else "\nnothing to run")
    options = launch_options(loaded.sweep.resources) if launcher == "local" else []
    for entry in todo:
        _say(f"{entry.index}: {shlex.join(['rectified-lpjepa', *entry.argv, *options])}")
    if launcher == "local":
        shared = environments(parallel, loaded.sweep.resources)
        told = " | ".join(" ".join(f"{name}={value}" for name, value in one.items()) for one in shared)
        _say(f"\n{parallel} at a time, with {told}")
    elif todo:
        script, note = _job_script(loaded)
        command = slurm.sbatch_command(
            loaded.folder, [entry.index for entry in todo], loaded.sweep.resources.max_parallel
        )
        _say(f"\n{loaded.folder.job_script}:\n{note}\n{script}\n{shlex.join(command)}")


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the command line's output
