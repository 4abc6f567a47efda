"""What is done with a sweep: its points are planned, started, and looked after, here or on a cluster."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from rectified_lpjepa.commands import say
from rectified_lpjepa.sweep import slurm
from rectified_lpjepa.sweep.file import Sweep
from rectified_lpjepa.sweep.local import LocalLauncher, environments, launch_options
from rectified_lpjepa.sweep.manifest import Entry, Folder, Plan, make_plan, write_plan
from rectified_lpjepa.sweep.status import Status, count, look, status_table

_TO_RUN = ("not started", "stopped", "failed")


class Loaded(NamedTuple):
    """A sweep, and what is known of its points.

    Attributes:
        sweep: what the file says.
        folder: of the sweep.
        plan: its points.
        statuses: how they are doing, by index.
    """

    sweep: Sweep
    folder: Folder
    plan: Plan
    statuses: dict[int, Status]

    @property
    def todo(self) -> list[Entry]:
        """The points that are neither finished nor running."""
        return [entry for entry in self.plan.current if self.statuses[entry.index].state in _TO_RUN]


def load(sweep: Sweep, place: Path, *, needs_queue: bool = False) -> Loaded:
    """Look how the points of a sweep are doing; nothing is written.

    Args:
        sweep: what its file says.
        place: the folder in which the file lies, which the paths of configurations start from.
        needs_queue: whether it is an error that a cluster does not say what is queued.

    Raises:
        ValueError: the sweep is wrong, or the cluster does not answer.
    """
    folder = Folder(Path(sweep.root) / sweep.name)
    plan = make_plan(sweep, place, folder)
    try:
        queue = slurm.queue(folder)
    except ValueError as error:
        if needs_queue:
            raise
        say(f"warning: what is queued is not known: {error}\n")
        queue = {}
    return Loaded(sweep, folder, plan, look(folder, plan.current, queue))


def run(sweep: Sweep, place: Path, *, launcher: str = "local", parallel: int = 1) -> int:
    """Run the points of a sweep that are not finished, or submit them to a cluster, and say how they are doing.

    Args:
        sweep: what its file says.
        place: the folder in which the file lies.
        launcher: ``local`` or ``slurm``.
        parallel: points at a time on this machine.

    Returns:
        The exit code: 0, 1 where a point failed or was stopped, 128 and the signal after a signal.

    Raises:
        ValueError: the sweep is wrong, or the cluster refuses.
    """
    with Folder(Path(sweep.root) / sweep.name).locked():  # so that no point is submitted twice
        loaded = load(sweep, place, needs_queue=launcher == "slurm")
        write_plan(loaded.folder, loaded.plan)
        say(heading(loaded))
        if launcher == "slurm":
            _submit(loaded)
            return 0
    if not loaded.todo:
        say("nothing to run")
        say(status_table(loaded.plan.current, loaded.statuses))
        return 0
    return LocalLauncher(loaded.folder, parallel, sweep.resources).run(loaded.todo, loaded.plan.current)


def show(loaded: Loaded) -> None:
    """Print each point's state, epoch, accuracy and ℓ0."""
    say(heading(loaded))
    say(status_table(loaded.plan.current, loaded.statuses))


def dry_run(loaded: Loaded, launcher: str, parallel: int) -> None:
    """Print what :func:`run` would do, and do nothing."""
    todo = loaded.todo
    show(loaded)
    say("\ncommands:" if todo else "\nnothing to run")
    options = launch_options(loaded.sweep.resources) if launcher == "local" else []
    for entry in todo:
        say(f"{entry.index}: {shlex.join(['rectified-lpjepa', *entry.argv, *options])}")
    if launcher == "local":
        shared = environments(parallel, loaded.sweep.resources)
        told = " | ".join(" ".join(f"{name}={value}" for name, value in one.items()) for one in shared)
        say(f"\n{parallel} at a time, with {told}")
    elif todo:
        script, note = _job_script(loaded)
        command = slurm.sbatch_command(
            loaded.folder, [entry.index for entry in todo], loaded.sweep.resources.max_parallel
        )
        say(f"\n{loaded.folder.job_script}:\n{note}\n{script}\n{shlex.join(command)}")


def heading(loaded: Loaded) -> str:
    """Say where a sweep lies and how many of its points are in which state, and which came and went."""
    plan = loaded.plan
    lines = [f"{loaded.sweep.name} in {loaded.folder.path}: {count(loaded.statuses.values())}"]
    if plan.added and len(plan.added) < len(plan.entries):
        lines.append(f"new: {', '.join(entry.id for entry in plan.added)}")
    if plan.removed:
        lines.append(f"not in the file any more, kept: {', '.join(entry.id for entry in plan.removed)}")
    return "\n".join([*lines, ""])


def _submit(loaded: Loaded) -> None:
    if not loaded.todo:
        say("nothing to submit")
        return
    script, note = _job_script(loaded)
    if note:
        say(note)
    indices = [entry.index for entry in loaded.todo]
    job = slurm.submit(loaded.folder, script, indices, loaded.sweep.resources.max_parallel)
    say(f"submitted {len(indices)} points as job {job}; output goes to {loaded.folder.logs}")


def _job_script(loaded: Loaded) -> tuple[str, str]:
    """Give the job script, and a note where it is one that was edited."""
    path = loaded.folder.job_script
    written = slurm.job_script(loaded.sweep.name, loaded.sweep.resources, loaded.folder, Path.cwd())
    present = path.read_text(encoding="utf-8") if path.exists() else written
    if not slurm.is_edited(present):
        return written, ""
    return present, f"{path} was edited and is used as it is. HINT: delete it to have it written from the sweep file."
