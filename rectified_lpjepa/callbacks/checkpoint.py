"""Checkpoints that are either the old file or the new one, and that run no code when they are read."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from typing_extensions import override

from rectified_lpjepa.files import atomic_write

LAST = "last.ckpt"


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
            OSError: if the disk refuses; the former file is intact and the temporary one removed.
        """
        if storage_options is not None:
            raise TypeError(f"AtomicCheckpointIO has no storage_options, got {storage_options!r}: leave them out.")
        with atomic_write(Path(path)) as file:
            torch.save(checkpoint, file)

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
                f"There is no checkpoint '{path}'. Give the path of a .ckpt file, such as 'checkpoints/{LAST}' in the "
                "directory of a run."
            )
        _check_integrity(path)
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"Checkpoint '{path}' was refused: it holds Python objects, and reading those could run code. Only "
                "tensors, numbers, strings, lists and dicts are read. Use a checkpoint written by this package, or "
                f"convert this one on a machine where its origin is trusted. The reader said: {_first_line(error)}"
            ) from error
        except RuntimeError as error:
            raise _damaged(path, _first_line(error)) from error
        return checkpoint


class RunCheckpoint(ModelCheckpoint):
    """Keep ``checkpoints/last.ckpt`` at every epoch's end and ``checkpoints/epoch-….ckpt`` every few epochs.

    Both are written after the epoch's validation and after the other callbacks have taken note of it, so a resumed run
    repeats nothing and ``validate --ckpt_path …/last.ckpt`` gives the numbers that were logged. ``last.ckpt`` is a file
    of its own, never a link.

    Lightning's own class writes its last checkpoint only when it also writes another one, warns about the folder that
    a resumed run finds, and complains about a run directory that was moved; this one has no state and does not.

    Args:
        every_n_epochs: number of epochs between the checkpoints that are kept for good; 0 keeps none.
        dirpath: folder of the checkpoints; ``checkpoints`` in the run directory (``default_root_dir``) if absent.

    Raises:
        ValueError: if ``every_n_epochs`` is negative.
    """

    def __init__(self, every_n_epochs: int = 100, dirpath: str | None = None) -> None:
        if every_n_epochs < 0:
            raise ValueError(f"RunCheckpoint(every_n_epochs={every_n_epochs}) must be at least 0; 0 keeps only {LAST}.")
        super().__init__(dirpath=dirpath, save_top_k=0, every_n_epochs=0, save_on_train_epoch_end=True)
        self.keep_every_n_epochs = every_n_epochs

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._locate(trainer)
        super().setup(trainer, pl_module, stage)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # a connector sets it
            return
        epoch = trainer.current_epoch + 1
        folder = self._locate(trainer)
        if self.keep_every_n_epochs and epoch % self.keep_every_n_epochs == 0:
            trainer.save_checkpoint(folder / f"epoch-{epoch:04d}.ckpt", weights_only=False)
        trainer.save_checkpoint(folder / LAST, weights_only=False)
        self.last_model_path = str(folder / LAST)
        for logger in trainer.loggers:  # what a killed run resumes from must find its logs, too
            logger.save()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {}

    @override
    def _find_last_checkpoints(self, trainer: pl.Trainer) -> set[str]:
        # `ckpt_path="last"` is looked up before `setup`.
        self._locate(trainer)
        return super()._find_last_checkpoints(trainer)

    def _locate(self, trainer: pl.Trainer) -> Path:
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir).resolve() / "checkpoints")
        return Path(self.dirpath)


def _check_integrity(path: Path) -> None:
    """Compare all checksums in the file, which :func:`torch.load` does not: it takes a flipped bit for a weight."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
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
