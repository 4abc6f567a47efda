"""The command ``rectified-lpjepa benchmark NAME``."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import auto_cli

from rectified_lpjepa.benchmarks.loss import loss
from rectified_lpjepa.benchmarks.views import views


def benchmark(arguments: Sequence[str]) -> None:
    """Run a benchmark.

    Args:
        arguments: its name and its options, which are the parameters of the function of that name.

    Raises:
        SystemExit: for a wrong command line.
    """
    auto_cli({"loss": loss, "views": views}, args=list(arguments), prog="rectified-lpjepa benchmark")
