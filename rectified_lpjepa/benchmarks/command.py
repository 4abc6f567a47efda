"""The command ``rectified-lpjepa benchmark NAME``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jsonargparse import auto_cli

from rectified_lpjepa.benchmarks.convolution import convolution
from rectified_lpjepa.benchmarks.loss import loss
from rectified_lpjepa.benchmarks.processes import processes
from rectified_lpjepa.benchmarks.reader import reader
from rectified_lpjepa.benchmarks.step import step
from rectified_lpjepa.benchmarks.views import views


def benchmark(arguments: Sequence[str]) -> None:
    """Run a benchmark.

    Args:
        arguments: its name and its options, which are the parameters of the function of that name.

    Raises:
        SystemExit: for a wrong command line.
    """
    commands: dict[str, Any] = {
        "convolution": convolution,
        "loss": loss,
        "processes": processes,
        "reader": reader,
        "step": step,
        "views": views,
    }
    auto_cli(commands, args=list(arguments), prog="rectified-lpjepa benchmark")
