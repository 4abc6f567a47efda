"""A sweep on this machine: some points at a time, each a process of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import BinaryIO, NamedTuple, Self

from tqdm import tqdm

from rectified_lpjepa.commands import SIGNAL_EXIT
from rectified_lpjepa.machine import available_cores
from rectified_lpjepa.sweep.file import Resources
from rectified_lpjepa.sweep.manifest import Entry, Folder
from rectified_lpjepa.sweep.status import (
    ENCODER,
    L0,
    L0_TARGET,
    Status,
    exit_line,
    fraction,
    look,
    percent,
    status_table,
)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_SECONDS = 0.2


class _Child(NamedTuple):
    entry: Entry
    process: subprocess.Popen[bytes]
    log: BinaryIO
    since: float


class LocalLauncher:
    """Runs points as processes of the command line, ``parallel`` at a time, and goes on after one that fails.

    After Ctrl-C, SIGTERM or SIGHUP no more points are started, and those that run get SIGTERM, upon which they save and
    end; a second signal kills them.

    Args:
        folder: of the sweep, its manifest written.
        parallel: number of points at a time.
        resources: of one point. Where it says how many processes a point has, they are on this machine, whatever the
            number of nodes; otherwise the configuration says it.
    """

    def __init__(self, folder: Folder, parallel: int, resources: Resources) -> None:
        self._folder = folder
        self._options = launch_options(resources)
        self._environments = environments(parallel, resources)
        self._children: dict[int, _Child] = {}
        self._signals: list[int] = []

    def run(self, todo: Sequence[Entry], points: Sequence[Entry]) -> int:
        """Run points and show how they did.

        Args:
            todo: the points to run.
            points: all of the sweep; those that are not to be run count as done.

        Returns:
            The exit code: 0, 1 where a point failed or was stopped, 128 and the signal after a signal.
        """
        waiting = deque(todo)
        passed = 0
        self._folder.logs.mkdir(parents=True, exist_ok=True)
        with _Progress(len(points) - len(todo), len(points)) as progress, self._listening():
            while self._children or (waiting and not self._signals):
                for slot in range(len(self._environments)):
                    if waiting and slot not in self._children and not self._signals:
                        self._start(slot, waiting.popleft(), progress)
                for slot, child in list(self._children.items()):
                    if child.process.poll() is not None:
                        del self._children[slot]
                        progress.ended(child, self._end(child))
                if passed < len(self._signals):
                    passed = len(self._signals)
                    self._pass_on(kill=passed > 1)
                progress.show(len(self._children))
                time.sleep(_POLL_SECONDS)
        statuses = look(self._folder, points, {})
        _say("\n" + status_table(points, statuses))
        if self._signals:
            _say("stopped; the same command goes on")
            return SIGNAL_EXIT + self._signals[0]
        return int(any(statuses[entry.index].state in ("failed", "stopped") for entry in todo))

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def note(number: int, *_: object) -> None:
            self._signals.append(number)

        former = {number: signal.signal(number, note) for number in _SIGNALS}
        try:
            yield
        except BaseException:
            self._pass_on(kill=False)
            raise
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _start(self, slot: int, entry: Entry, progress: _Progress) -> None:
        (status,) = look(self._folder, [entry], {}).values()
        if status.state in ("finished", "running"):  # another launcher, or a person, was faster
            progress.elsewhere(entry, status)
            return
        command = [sys.executable, "-m", "rectified_lpjepa", *entry.argv, *self._options]
        log = (self._folder.logs / f"{entry.id}.log").open("ab")
        log.write(f"{datetime.now().isoformat(' ', 'seconds')}\n$ {shlex.join(command)}\n".encode())
        log.flush()
        # In a session of its own, so that Ctrl-C reaches it once, and from here.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | self._environments[slot],
            start_new_session=True,
        )
        self._children[slot] = _Child(entry, process, log, time.monotonic())

    def _end(self, child: _Child) -> Status:
        """Close the log of a point that has ended, with its exit code where that is not 0."""
        code = child.process.returncode
        if code != 0:
            child.log.write(f"{exit_line(code if code > 0 else SIGNAL_EXIT - code)}\n".encode())
        child.log.close()
        return look(self._folder, [child.entry], {})[child.entry.index]

    def _pass_on(self, kill: bool) -> None:
        said = "killed" if kill else "asked to save and end; a second signal kills them"
        for child in self._children.values():
            if kill:
                os.killpg(child.process.pid, signal.SIGKILL)
            else:
                child.process.send_signal(signal.SIGTERM)
        _say(f"still running: {len(self._children)}, {said}")  # last, as nobody may read it any more


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stdout)  # above the bar
    sys.stdout.flush()


class _Progress:
    """The bar, where there is a terminal, and a line for each point that ends, with the points that finish in an hour.

    Args:
        done: number of points that need not run.
        total: number of points.
    """

    def __init__(self, done: int, total: int) -> None:
        self._done, self._total, self._finished = done, total, 0
        self._since = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=done,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            bar_format="{n}/{total} points |{bar}| {elapsed}{postfix}",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, running: int) -> None:
        """Draw the bar."""
        self._bar.set_postfix_str(", ".join(part for part in (f"{running} running", self._rate()) if part))

    def elsewhere(self, entry: Entry, status: Status) -> None:
        """Say that a point is finished, or runs, without this launcher."""
        self._step(f"{status.state} elsewhere {entry.id}")

    def ended(self, child: _Child, status: Status) -> None:
        """Say how a point ended."""
        self._finished += status.state == "finished"
        told = [f"{status.state} {child.entry.id} ({time.monotonic() - child.since:.0f} s)"]
        if ENCODER in status.metrics:
            told.append(f"encoder {percent(status.metrics[ENCODER])}")
        if L0 in status.metrics:
            told.append(
                "ℓ0 " + "/".join(fraction(status.metrics[name]) for name in (L0, L0_TARGET) if name in status.metrics)
            )
        if status.state == "failed":
            told.append(f"see {status.log}")
        self._step("  ".join([*told, self._rate()]).rstrip())

    def _step(self, text: str) -> None:
        self._done += 1
        _say(f"[{self._done}/{self._total}] {text}")
        self._bar.update()

    def _rate(self) -> str:
        if not self._finished:
            return ""
        return f"{3600 * self._finished / (time.monotonic() - self._since):.3g} points/h"


def launch_options(resources: Resources) -> list[str]:
    """Give the options that say how many processes a point has on this machine; none where it is not said."""
    is_said = resources.processes_per_node or resources.gpus_per_node
    return [f"--trainer.devices={resources.processes}"] if is_said else []


def environments(parallel: int, resources: Resources) -> list[dict[str, str]]:
    """Share cores and GPUs of this machine among points that run at a time.

    Args:
        parallel: number of points.
        resources: of one point; where there are fewer GPUs than all points want, several points share some.

    Returns:
        Environment variables for each of them.
    """
    gpus = resources.gpus_per_node
    threads = str(max(1, available_cores() // (parallel * resources.processes)))
    shared: list[dict[str, str]] = [{"OMP_NUM_THREADS": threads} for _ in range(parallel)]
    devices = _visible_gpus() if gpus else []
    groups = [devices[first : first + gpus] for first in range(0, len(devices) - gpus + 1, gpus)] if gpus else []
    if devices and not groups:
        groups = [devices]
    for slot, environment in enumerate(shared):
        if groups:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(groups[slot % len(groups)])
    return shared


def _visible_gpus() -> list[str]:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return [str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")]
