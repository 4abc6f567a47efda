"""What a benchmark says: a table for people, and JSON that names machine, versions and commit."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rectified_lpjepa.benchmarks.measure import Spread
from rectified_lpjepa.files import write_text
from rectified_lpjepa.machine import available_cores, processor
from rectified_lpjepa.source import commit

_PACKAGES = ("torch", "torchvision", "lightning", "timm", "numpy", "pillow")

Cell = str | int | float | Spread


def report(
    name: str, baseline: str, rows: list[dict[str, Cell]], *, device: torch.device | str, out: str, conclusion: str = ""
) -> Path:
    """Print the rows of a benchmark as a table and store them as ``<out>/<name>-<cpu or cuda>.json``.

    Args:
        name: of the benchmark.
        baseline: one sentence that says what the other sides are compared with.
        rows: what was measured, by heading; the same headings in every row. A :class:`Spread` shows as median and
            quartiles.
        device: where it ran.
        out: folder to write to.
        conclusion: what follows from the rows, in a sentence.

    Returns:
        The file written.
    """
    environment = describe_environment(device)
    print(f"{name}: {environment['hardware']}, {environment['threads']} threads\nbaseline: {baseline}\n")  # noqa: T201
    print(table(rows))  # noqa: T201
    if conclusion:
        print(f"\n{conclusion}")  # noqa: T201
    path = Path(out) / f"{name}-{torch.device(device).type}.json"
    plain = [{key: cell._asdict() if isinstance(cell, Spread) else cell for key, cell in row.items()} for row in rows]
    content = {"benchmark": name, "baseline": baseline, **environment, "rows": plain, "conclusion": conclusion}
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{path}")  # noqa: T201
    return path


def table(rows: list[dict[str, Cell]]) -> str:
    """Lay out rows under their headings, numbers with three significant digits, ranges in brackets."""
    headings = list(rows[0])
    cells = [headings, *([_shown(row[heading]) for heading in headings] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _shown(cell: Cell) -> str:
    if isinstance(cell, Spread):
        return f"{_number(cell.median)} ({_number(cell.low)}–{_number(cell.high)})"
    return _number(cell) if isinstance(cell, float) else str(cell)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def describe_environment(device: torch.device | str) -> dict[str, Any]:
    """Say when, with which command, from which commit, on what hardware and with which versions something ran."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["rectified-lpjepa", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": _hardware(torch.device(device)),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}},
    }


def _hardware(device: torch.device) -> str:
    cores = f"{available_cores()} cores"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {cores}"
    return f"{processor()}, {torch.backends.cpu.get_cpu_capability()}, {cores}"
