"""How the points of a sweep are doing, read from the files that their runs leave."""

from __future__ import annotations

import csv
import fcntl
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rectified_lpjepa.commands import OUT_OF_TIME_EXIT, aligned
from rectified_lpjepa.files import read_json
from rectified_lpjepa.sweep.manifest import Entry, Folder
from rectified_lpjepa.sweep.yaml_file import read_mapping

STATES = ("finished", "running", "queued", "stopped", "failed", "not started")
ENCODER, PROJECTOR = "val/probe_encoder/top1", "val/probe_projector/top1"
L0, L0_TARGET = "val/sparsity/l0", "val/sparsity/l0_target"
_SHOWN = (ENCODER, PROJECTOR, L0, L0_TARGET)
# Exit codes of `fit` when its time is used up, and after SIGHUP, Ctrl-C, SIGUSR1 and SIGTERM: it goes on.
_STOPPED = (OUT_OF_TIME_EXIT, 129, 130, 138, 143)
_EXIT = "exit code "
_ERROR_LINES = 12


@dataclass(frozen=True)
class Status:
    """How a point is doing.

    Attributes:
        state: one of :data:`STATES`.
        epoch: number of epochs begun.
        epochs: number of epochs asked for.
        metrics: last values by name; all of them where the point is finished.
        restarts: how often its run went on after a stop.
        error: the last lines of a failed point's log.
        log: the newest log file.
        result: content of the ``result.json`` of a finished point.
    """

    state: str
    epoch: int | None = None
    epochs: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    restarts: int = 0
    error: tuple[str, ...] = ()
    log: Path | None = None
    result: Mapping[str, Any] = field(default_factory=dict)


def exit_line(code: int) -> str:
    """Give the last line of the log of a start that ended with an exit code other than 0."""
    return f"{_EXIT}{code}"


def look(folder: Folder, entries: Iterable[Entry], queue: Mapping[int, str]) -> dict[int, Status]:
    """Look how points are doing.

    Args:
        folder: of the sweep.
        entries: the points.
        queue: ``queued`` or ``running`` by index, of the points that a cluster has in its queue.

    Returns:
        The status of each point, by index.
    """
    logs = _newest_logs(folder.logs)
    return {entry.index: _look(entry, logs, queue.get(entry.index)) for entry in entries}


def is_running(run_dir: Path) -> bool:
    """Say whether a process holds the lock of a run directory; False where the file system has no locks."""
    try:
        with (run_dir / "running.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _newest_logs(folder: Path) -> dict[str, Path]:
    """Find the newest log of each point: by id the local launcher's, by index SLURM's."""
    newest: dict[str, Path] = {}
    files = [(file.stat().st_mtime, file) for file in folder.glob("*.*")] if folder.is_dir() else []
    for _, file in sorted(files):
        if file.suffix == ".log":
            newest[file.stem] = file
        elif file.suffix == ".out":
            newest[file.stem.rpartition("_")[2]] = file
    return newest


def _look(entry: Entry, logs: Mapping[str, Path], queued: str | None) -> Status:
    run_dir = Path(entry.run_dir)
    found = [logs[name] for name in (entry.id, str(entry.index)) if name in logs]
    log = max(found, key=lambda file: file.stat().st_mtime) if found else None
    restarts = max(0, len(_lines(run_dir / "starts.jsonl")) - 1)
    result = read_json(run_dir / "result.json")
    if result is not None:
        return Status("finished", result["epochs"], result["epochs"], result["metrics"], restarts, (), log, result)
    epoch, metrics = _progress(run_dir / "csv" / "metrics.csv")
    epochs = _epochs(run_dir / "config.yaml")
    error: tuple[str, ...] = ()
    if is_running(run_dir):
        state = "running"
    elif queued is not None:
        state = queued
    elif error := _error(log):
        state = "failed"
    else:
        state = "stopped" if log is not None or run_dir.exists() else "not started"
    return Status(state, epoch, epochs, metrics, restarts, error, log)


def _epochs(config: Path) -> int | None:
    """Read how many epochs a run is to have; None while its configuration is not written, or just being written."""
    try:
        trainer = read_mapping(config).get("trainer")
    except (FileNotFoundError, ValueError):
        return None
    return trainer.get("max_epochs") if isinstance(trainer, dict) else None


def _progress(table: Path) -> tuple[int | None, dict[str, float]]:
    """Read the last epoch, counted from 1, and the last values of the metrics that are shown, from a run's table."""
    text = table.read_text(encoding="utf-8") if table.exists() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()  # the last one may just be being written
    epoch, metrics = None, dict[str, float]()
    if len(lines) < 2:
        return epoch, metrics
    heading = next(csv.reader(lines[:1]))
    wanted = [name for name in _SHOWN if name in heading]
    for row in csv.reader(reversed(lines[1:])):
        values = {name: value for name, value in zip(heading, row, strict=False) if value}
        epoch = int(values["epoch"]) + 1 if epoch is None and "epoch" in values else epoch
        metrics = {name: float(values[name]) for name in wanted if name in values} | metrics
        if len(metrics) == len(wanted):
            break
    return epoch, metrics


def _error(log: Path | None) -> tuple[str, ...]:
    """Give the error of a log that ends with the exit code of a failure: its message, or the log's last lines."""
    lines = [line.rstrip() for line in _lines(log) if line.strip()] if log is not None else []
    code = re.fullmatch(rf"{_EXIT}(\d+)", lines[-1]) if lines else None
    if code is None or int(code[1]) in _STOPPED:
        return ()
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    lines = lines[starts[-1] + 1 if starts else 0 : -1]
    messages = [number for number, line in enumerate(lines) if line.startswith("error:")]
    told = lines[messages[-1] :][:_ERROR_LINES] if messages else lines[-_ERROR_LINES:]
    return (*told, code[0])


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []


# ------------------------------------------------------------------------------------------------------------- tables


def count(statuses: Iterable[Status]) -> str:
    """Count the states, such as "8 points: 3 finished, 5 not started"."""
    counts = Counter(status.state for status in statuses)
    parts = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"{counts.total()} points" + (f": {parts}" if parts else "")


def status_table(entries: Sequence[Entry], statuses: Mapping[int, Status]) -> str:
    """Lay out points with state, epoch, accuracies, ℓ0 beside the target's and restarts; then the errors."""
    rows = [["", "point", "state", "epoch", "encoder", "projector", "ℓ0", "target", "restarts"]]
    rows += [[str(entry.index), entry.id, *_cells(statuses[entry.index])] for entry in entries]
    text = aligned(rows)
    for entry in entries:
        status = statuses[entry.index]
        if status.state == "failed":
            text += "\n\n" + "\n  ".join([f"{entry.id} failed, see {status.log}:", *status.error])
    return text


def _cells(status: Status) -> list[str]:
    epoch = "" if status.epoch is None else f"{status.epoch}" + (f"/{status.epochs}" if status.epochs else "")
    measured = [percent(status.metrics.get(ENCODER)), percent(status.metrics.get(PROJECTOR))]
    sparsity = [fraction(status.metrics.get(L0)), fraction(status.metrics.get(L0_TARGET))]
    return [status.state, epoch, *measured, *sparsity, str(status.restarts) if status.restarts else ""]


def percent(value: float | None) -> str:
    """Write an accuracy in percent; nothing for None."""
    return "" if value is None else f"{100 * value:.1f}%"


def fraction(value: float | None) -> str:
    """Write a fraction with three digits; nothing for None."""
    return "" if value is None else f"{value:.3f}"
