"""The program in a Python of its own, which tells what a command needs."""

from __future__ import annotations

import subprocess
import sys


def run_alone(*arguments: str) -> tuple[str, set[str]]:
    """Run a command that ends well; return what it prints, and the modules that were imported for it."""
    code = f"import sys; from rectified_lpjepa.main import main\ntry: main({arguments})\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    return text, set(modules.split())
