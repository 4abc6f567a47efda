"""Times and memory of several sides of a comparison, taken so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch


class Spread(NamedTuple):
    """Median and quartiles of a figure over the rounds of a measurement."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Summarise the values of at least one round."""
        low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(median(values), low, high)


class Timings(NamedTuple):
    """Seconds of each side in each round; a ratio is taken round by round, so that a slow round cancels out."""

    rounds: dict[str, list[float]]

    def seconds(self, side: str) -> Spread:
        """Return the seconds that a side takes."""
        return Spread.of(self.rounds[side])

    def ratio(self, numerator: str, denominator: str) -> Spread:
        """Return how many times as long one side takes as another."""
        pairs = zip(self.rounds[numerator], self.rounds[denominator], strict=True)
        return Spread.of([upper / lower for upper, lower in pairs])


def choose_device(name: str) -> torch.device:
    """Return the device of a name, where ``auto`` is CUDA where there is a GPU and else the CPU."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch compute on so many threads inside, and restore their number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_in_turn(
    sides: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int = 1, device: torch.device | str = "cpu"
) -> Timings:
    """Time several functions in turn, A B C A B C …, in this process.

    Args:
        sides: functions without arguments by name.
        repeats: number of rounds that count, at least 1.
        warmup: number of rounds before them that do not count.
        device: device whose queue must be empty before a clock is read.

    Raises:
        ValueError: if ``repeats`` is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}. A measurement needs at least 1 round.")
    rounds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(-warmup, repeats):
        for side, run in sides.items():
            _wait_for(device)
            start = time.perf_counter()
            run()
            _wait_for(device)
            if number >= 0:
                rounds[side].append(time.perf_counter() - start)
    return Timings(rounds)


def peak_extra_memory(prepare: Callable[..., Callable[[], object]], *arguments: Any, device: torch.device | str) -> int:
    """Measure by how much memory grows at its peak while a function runs, in bytes.

    On CUDA it is what the allocator hands out, on a CPU the resident memory of a fresh process (Linux only).

    Args:
        prepare: module-level function that makes the inputs, does once on small ones what loads libraries for good, and
            returns the function to measure.
        *arguments: of ``prepare``.
        device: where it runs.
    """
    if torch.device(device).type == "cuda":
        run = prepare(*arguments)
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_extra_resident_memory, (prepare, arguments, torch.get_num_threads()))


def _peak_extra_resident_memory(
    prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...], num_threads: int
) -> int:
    torch.set_num_threads(num_threads)
    run = prepare(*arguments)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to the present size
    before = _status("VmHWM")
    run()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return 1024 * int(kibibytes)


def _wait_for(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
