"""Checkpoints that are either the old file or the new one, and that run no code when they are read."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from typing_extensions import override

from rectified_lpjepa.files import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically and durably; read only tensors and plain values.

    A checkpoint is written under a temporary name in its own folder, flushed to the disk and then renamed, so a crash,
    a full disk or a lost power supply leaves the former file as it was. Reading never unpickles arbitrary objects.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint so that ``path`` is at all times absent, the former file or the whole new one.

        Args:
            checkpoint: what to save.
            path: file to write; missing folders are made.
            storage_options: must be ``None``; accepted for the interface's sake.

        Raises:
            TypeError: if ``storage_options`` is given.
            OSError: if the disk refuses, with what to do; the former file is intact and the temporary one removed.
        """
        if storage_options is not None:
            raise TypeError(f"AtomicCheckpointIO has no storage_options, got {storage_options!r}: leave them out.")
        try:
            with atomic_write(Path(path)) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            # In closing its archive torch.save fails in its own way, too, and that is what arrives here.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise OSError(
                f"The checkpoint '{path}' could not be written: {cause.strerror or cause}. What was there before is "
                "intact. HINT: make room, or see to the disk, and start the same run again: it goes on from its last "
                "checkpoint."
            ) from error

    @override
    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[[Any, str], Any] | torch.device | str | None = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Args:
            path: file to read.
            map_location: where the tensors go, as in :func:`torch.load`.
            weights_only: reading is restricted to tensors and plain values whatever is asked for here.

        Returns:
            The checkpoint.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is damaged, or holds objects other than tensors and plain values.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no checkpoint '{path}'. Give the path of a .ckpt file, such as 'checkpoints/last.ckpt' in "
                "the directory of a run."
            )
        check_integrity(path)
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"Checkpoint '{path}' was refused: it holds Python objects, and reading those could run code. Only "
                "tensors, numbers, strings, lists and dicts are read. Use a checkpoint written by this package, or "
                f"convert this one on a machine where its origin is trusted. The reader said: {_first_line(error)}"
            ) from error
        except Exception as error:
            raise _damaged(path, _first_line(error)) from error
        return checkpoint


def check_integrity(path: Path) -> None:
    """Compare all checksums in a checkpoint, which :func:`torch.load` does not: it takes a flipped bit for a weight.

    Raises:
        ValueError: if the file is damaged or truncated.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (FileNotFoundError, PermissionError):
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise _damaged(path, _first_line(error)) from error
    if damaged is not None:
        raise _damaged(path, f"the checksum of its part '{damaged}' is wrong")


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"Checkpoint '{path}' is damaged or truncated ({path.stat().st_size} bytes): {reason}. Use another checkpoint "
        "of the run, such as one of its 'checkpoints/epoch-….ckpt', or start the run afresh."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
