"""Write the features of a data set to one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rectified_lpjepa.files import atomic_write

Arrays = dict[str, NDArray[Any]]

_DTYPES: dict[str, type[np.generic]] = {
    "encoder": np.float32,
    "preactivations": np.float32,
    "projector": np.float32,
    "labels": np.int64,
    "indices": np.int64,
}
_OPTIONAL = ("preactivations", "projector")


class FeatureWriter(pl.Callback):
    """Write what ``predict`` computes to one ``.npz`` file, in the order of the data set.

    The file holds ``encoder`` float32 (n, F), ``preactivations`` and ``projector`` float32 (n, D), before and behind
    the rectifier, ``labels`` int64 (n,), −1 where unknown, and ``indices`` int64 (n,), the place of each sample in the
    data set, ascending. Each sample is there exactly once, whatever the number of processes. Several processes pass
    their shares on through files beside it, so the folder must be one that all of them see.

    The module's ``predict_step`` must return a dict of tensors with these names; a model without a projector leaves its
    two features out. (Lightning's own base class for writers would ask the loader for the places, and warn where a
    sampler makes whole batches.)

    Args:
        path: file to write; ``features.npz`` in the run directory (``default_root_dir``) if absent.

    Raises:
        ValueError: if ``path`` does not end in ``.npz``.
    """

    def __init__(self, path: str | None = None) -> None:
        if path is not None and Path(path).suffix != ".npz":
            raise ValueError(f"FeatureWriter(path={path!r}) must end in '.npz', such as 'features.npz'.")
        self._path = path
        self._batches: list[Arrays] = []

    @override
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._batches = []

    @override
    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # bfloat16 has no NumPy type, hence the cast of floating-point tensors before.
        names = [name for name in _DTYPES if name in outputs or name not in _OPTIONAL]
        tensors = {name: outputs[name].detach() for name in names}
        tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
        self._batches.append({name: value.cpu().numpy().astype(_DTYPES[name]) for name, value in tensors.items()})

    @override
    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path = Path(trainer.strategy.broadcast(self._path or str(Path(trainer.default_root_dir) / "features.npz")))
        batches, self._batches = self._batches, []
        if trainer.world_size == 1:
            _save(path, _merged(batches))
        else:
            _save_shares(path, batches, trainer)
        pl_module.print(f"Features: {path}")


def _save_shares(path: Path, batches: list[Arrays], trainer: pl.Trainer) -> None:
    """Write each process's share to a file of its own, then merge them on the first process."""
    parts = [path.with_name(f".{path.stem}.{rank}.part.npz") for rank in range(trainer.world_size)]
    own = parts[trainer.global_rank]
    own.unlink(missing_ok=True)  # what a killed process left there is not this process's share, which may be empty
    if batches:
        _save(own, _merged(batches))
    trainer.strategy.barrier("every process has written its features")
    if trainer.is_global_zero:
        written = [part for part in parts if part.exists()]
        _save(path, _merged([_load(part) for part in written]))
        for part in written:
            part.unlink()
    trainer.strategy.barrier("the features are in one file")


def _merged(batches: list[Arrays]) -> Arrays:
    """Join in the order of the data set; a sample that a padding sampler gave to two processes is kept once."""
    _, first = np.unique(np.concatenate([batch["indices"] for batch in batches]), return_index=True)
    return {name: np.concatenate([batch[name] for batch in batches])[first] for name in batches[0]}


def _save(path: Path, arrays: Arrays) -> None:
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes the keywords for its own flag


def _load(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
