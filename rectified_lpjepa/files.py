"""Writing files so that a reader sees the old content or the new one, never a part; and reading what may be missing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written as a whole: under a temporary name in its folder, flushed to the disk, then renamed.

    A crash, a full disk or a lost power supply leaves the former file as it was; after an exception the temporary file
    is removed. Missing folders are made.

    Args:
        path: the file to write or to replace.

    Yields:
        The temporary file, open for writing bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name: what a killed process left behind is overwritten by the next write instead of piling up.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, see :func:`atomic_write`."""
    with atomic_write(path) as file:
        file.write(text.encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is no such file."""
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable (POSIX; other systems cannot open a folder and need not)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
