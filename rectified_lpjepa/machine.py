"""What this process may use of the machine."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Count the cores that this process may use; those of the machine where the system does not tell them apart."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
