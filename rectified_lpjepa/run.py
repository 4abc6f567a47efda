"""The directory of a run: claimed by one process at a time, and by runs of one identity only."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from rectified_lpjepa.callbacks.checkpoint import LAST, PREVIOUS
from rectified_lpjepa.callbacks.checkpoint_io import AtomicCheckpointIO
from rectified_lpjepa.files import read_json, write_text
from rectified_lpjepa.identity import differences, identity_hash

_CONTENTS = (
    "checkpoints",
    "config.yaml",
    "csv",
    "features_test.npz",
    "features_train.npz",
    "figures",
    "identity.json",
    "result.json",
    "starts.jsonl",
    "summary.json",
    "tensorboard",
)


@dataclass(frozen=True)
class Run:
    """Where a run lives and how it starts.

    Args:
        name: first part of the run directory's name.
        root: folder that holds the run directories.
        dir: the run directory itself, in place of ``<root>/<name>-<hash of the identity>``.
        fresh: discard what an earlier run of the same identity left in the directory, and start over; but not where
            SLURM or torchrun starts the same job again, which goes on.
        fork_from: checkpoint of another run to go on from under the present configuration, in a directory of its own.
    """

    name: str = "run"
    root: str = "runs"
    dir: str | None = None
    fresh: bool = False
    fork_from: str | None = None


@rank_zero_only
def _put_aside(paths: Iterable[Path]) -> None:
    """Rename damaged files, so that they never take the place of a good one."""
    for path in paths:
        path.replace(path.with_name(path.name + ".damaged"))


def _this_process() -> dict[str, Any]:
    """Say who does something now, for others to read."""
    return {"host": platform.node(), "pid": os.getpid(), "slurm_job": os.environ.get("SLURM_JOB_ID")}


def _lock_file(file: BinaryIO) -> None:
    """Lock a file exclusively, or raise BlockingIOError; `sweep status` holds the lock for a moment to look at it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.2)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_restarted() -> bool:
    """Say whether what started this process has started the same command before."""
    return any(int(os.environ.get(f"{name}_RESTART_COUNT") or 0) > 0 for name in ("SLURM", "TORCHELASTIC"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunDirectory:
    """The folder of one run.

    It holds ``config.yaml``, ``identity.json``, ``summary.json``, ``starts.jsonl`` (a line for each start),
    ``checkpoints/``, ``figures/``, ``tensorboard/``, ``csv/``, and ``result.json`` once the run is finished. While the
    run is in progress its first process holds a lock on ``running.lock``, which the system takes back however the
    process ends.

    Args:
        run: the run's settings.
        identity_: what the run is, see :func:`identity`.
    """

    def __init__(self, run: Run, identity_: Mapping[str, Any]) -> None:
        self.run = replace(run, fresh=run.fresh and not _is_restarted())
        self.identity = dict(identity_)
        self.path = Path(run.dir) if run.dir is not None else Path(run.root) / f"{run.name}-{identity_hash(identity_)}"

        self._lock: BinaryIO | None = None

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint from which the run goes on, unless it is damaged."""
        return self.path / "checkpoints" / LAST

    @property
    def result(self) -> dict[str, Any] | None:
        """The final metrics of a finished run, None before."""
        return read_json(self.path / "result.json")

    def check(self) -> None:
        """Make sure that the directory is this run's own or nobody's.

        Raises:
            ValueError: the directory belongs to a run of another identity; the message shows the differences.
        """
        stored = read_json(self.path / "identity.json")
        changes = [] if stored is None else differences(stored, self.identity)
        if changes:
            raise ValueError(
                f"The run directory {self.path} belongs to a run of another identity. Stored → given:\n  "
                + "\n  ".join(changes)
                + "\nHINT: leave out `--run.dir` to start this run in a directory of its own; add `--run.fork_from "
                f"{self.last_checkpoint}` to continue there from what was trained here, with the given values."
            )

    def open(self) -> Path | None:
        """Claim the directory for this run until :meth:`close`, see also :meth:`check`.

        Returns:
            The checkpoint to go on from: the run's own last one that is not damaged, the one to fork from, or None for
            a new run.

        Raises:
            FileNotFoundError: the checkpoint to fork from does not exist.
            ValueError: the run is in progress, or all its checkpoints are damaged.
        """
        fork = self.run.fork_from
        if fork is not None and not Path(fork).is_file():
            raise FileNotFoundError(f"run.fork_from: there is no checkpoint {fork}. Give the path of a .ckpt file.")
        self._acquire()
        # With `fresh` only the first process discards; the others must not look at what it may not have discarded yet.
        own = None if self.run.fresh else self._own_checkpoint()
        self._claim()
        return own if own is not None or fork is None else Path(fork)

    def close(self) -> None:
        """Let others have the directory."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @rank_zero_only
    def note_start(self, step: int) -> None:
        """Write down that the run starts, or goes on, with an optimiser step."""
        with (self.path / "starts.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({**_this_process(), "time": _now(), "step": step}) + "\n")

    @rank_zero_only
    def _acquire(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / "running.lock"
        lock = path.open("a+b")
        try:
            _lock_file(lock)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().decode(errors="replace").strip()
            lock.close()
            raise ValueError(
                f"The run {self.path} is in progress: {holder or 'another process holds its lock'}. HINT: wait for it, "
                "or stop it; for another run give another `--seed_everything`, another value, or another `--run.name`."
            ) from None
        except OSError as error:
            lock.close()
            warnings.warn(
                f"The file system of {self.path} has no locks ({error.strerror}): nothing hinders a second start of "
                "this run while it is in progress. HINT: see to it that it is started once.",
                stacklevel=2,
            )
            return
        # A worker that outlives a killed run must not hold its lock.
        os.register_at_fork(after_in_child=lock.close)
        lock.truncate(0)
        lock.write(json.dumps({**_this_process(), "since": _now()}).encode())
        lock.flush()
        self._lock = lock

    def _own_checkpoint(self) -> Path | None:
        folder = self.last_checkpoint.parent
        candidates = [folder / LAST, folder / PREVIOUS, *sorted(folder.glob("epoch-*.ckpt"), reverse=True)]
        damaged: dict[Path, str] = {}
        for path in candidates:
            try:
                AtomicCheckpointIO().load_checkpoint(path, map_location="meta")
            except FileNotFoundError:
                continue
            except ValueError as error:
                damaged[path] = str(error)
                continue
            if damaged:
                rank_zero_warn("\n".join([*damaged.values(), f"The run goes on from {path} in its place."]))
                _put_aside(damaged)
            return path
        if damaged:
            raise ValueError("\n".join([*damaged.values(), "HINT: `--run.fresh true` starts the run over."]))
        return None

    @rank_zero_only
    def _claim(self) -> None:
        if self.run.fresh and (self.path / "identity.json").exists():
            for name in _CONTENTS:
                path = self.path / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        write_text(self.path / "identity.json", json.dumps(self.identity, indent=2, sort_keys=True) + "\n")


def existing_checkpoint(checkpoint: Path) -> Path:
    """Return the path of a checkpoint, or raise FileNotFoundError with what to do where there is none."""
    if not checkpoint.is_file():
        raise FileNotFoundError(
            f"There is no checkpoint {checkpoint}. HINT: train first, with `rectified-lpjepa fit` and the same "
            "options, or name a checkpoint with `--ckpt_path`."
        )
    return checkpoint
