"""The machine: its processor, and how much of it this process may use."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

_LINUX = Path("/proc/cpuinfo")


def available_cores() -> int:
    """Count the cores that this process may use; those of the machine where the system does not tell them apart."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def processor() -> str:
    """Return the model of the CPU, or its architecture where the system does not say more."""
    if _LINUX.exists():
        for line in _LINUX.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def has_bfloat16() -> bool:
    """Say whether an x86 CPU multiplies in bfloat16 by itself; False where the system does not tell."""
    return _LINUX.exists() and not {"avx512_bf16", "amx_bf16"}.isdisjoint(_LINUX.read_text().split())
