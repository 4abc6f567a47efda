"""What a result says of the processor that it was computed on."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

_LINUX = Path("/proc/cpuinfo")


@cache
def processor() -> str:
    """Return the model of the CPU, or its architecture where the system does not say more."""
    if _LINUX.exists():
        for line in _LINUX.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
