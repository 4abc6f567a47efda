"""Which code ran."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def commit() -> str:
    """The checked-out commit of the source, marked where files differ from it.

    Outside a checkout it is what the variable RECTIFIED_LPJEPA_COMMIT says, which a container image sets, or "unknown".
    """
    folder = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=-modified", "--abbrev=12"],
            cwd=folder,
            # A checkout's root is one folder above; git looks no further, into a project that an environment lies in.
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parents[1])},
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("RECTIFIED_LPJEPA_COMMIT", "unknown")
    return described.stdout.strip()
