"""A run directory is an identity: its name and a stored hash come from the configuration and the seed.

Keys are of two kinds. Identity keys (model, target, objective, data, batch, optimiser, schedule, epochs, seed) decide
what the numbers of a run mean; continuing a run with another value is refused. Runtime keys (devices, nodes, workers,
loggers, paths) may change from start to start.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from rectified_lpjepa.files import write_text

_IDENTITY_TRAINER_KEYS = (
    "max_epochs",
    "max_steps",
    "precision",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_train_batches",
    "sync_batchnorm",
)
_RUNTIME_MODEL_KEYS = ("compile",)
_RUNTIME_DATA_KEYS = ("root", "path", "num_workers", "eval_batch_size", "download", "predict_split")
_CONTENTS = (
    "checkpoints",
    "config.yaml",
    "csv",
    "features_test.npz",
    "features_train.npz",
    "figures",
    "identity.json",
    "result.json",
    "summary.json",
    "tensorboard",
)


@dataclass(frozen=True)
class Run:
    """Where a run lives and how it starts.

    Args:
        name: first part of the run directory's name.
        root: folder that holds the run directories.
        dir: the run directory itself, in place of ``<root>/<name>-<hash of the identity>``.
        fresh: discard what an earlier run of the same identity left in the directory, and start over.
        fork_from: checkpoint of another run to go on from under the present configuration, in a directory of its own.
    """

    name: str = "run"
    root: str = "runs"
    dir: str | None = None
    fresh: bool = False
    fork_from: str | None = None


def identity(config: Mapping[str, Any], fingerprint: str | None) -> dict[str, Any]:
    """Select the identity keys of a configuration.

    Args:
        config: the plain configuration of ``fit``, with the keys ``seed_everything``, ``model``, ``data``, ``trainer``.
        fingerprint: what tells the data from other data read by the same class, see
            :attr:`~rectified_lpjepa.data.TwoViewDataModule.fingerprint`. It stands for their path, which may change.

    Returns:
        A plain nested dict.
    """
    data = config["data"]
    arguments = {key: value for key, value in (data.get("init_args") or {}).items() if key not in _RUNTIME_DATA_KEYS}
    return {
        "seed_everything": config["seed_everything"],
        "model": {key: value for key, value in config["model"].items() if key not in _RUNTIME_MODEL_KEYS},
        "data": {"class_path": data["class_path"], "init_args": arguments, "fingerprint": fingerprint},
        "trainer": {key: config["trainer"].get(key) for key in _IDENTITY_TRAINER_KEYS},
    }


def identity_hash(identity_: Mapping[str, Any]) -> str:
    """Hash an identity to eight hexadecimal digits, the same on every machine."""
    return hashlib.sha256(json.dumps(identity_, sort_keys=True).encode()).hexdigest()[:8]


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _leaves(part, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """List the keys in which two identities differ, one line each: ``key: stored → given``."""
    old, new = dict(_leaves(stored)), dict(_leaves(given))
    missing = "(absent)"
    return [
        f"{key}: {old.get(key, missing)} → {new.get(key, missing)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, missing) != new.get(key, missing)
    ]


class RunDirectory:
    """The folder of one run.

    It holds ``config.yaml``, ``identity.json``, ``summary.json``, ``checkpoints/``, ``figures/``, ``tensorboard/``,
    ``csv/``, and ``result.json`` once the run is finished.

    Args:
        run: the run's settings.
        identity_: what the run is, see :func:`identity`.
    """

    def __init__(self, run: Run, identity_: Mapping[str, Any]) -> None:
        self.run = run
        self.identity = dict(identity_)
        self.path = Path(run.dir) if run.dir is not None else Path(run.root) / f"{run.name}-{identity_hash(identity_)}"

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint from which the run goes on."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def result(self) -> dict[str, Any] | None:
        """The final metrics of a finished run, None before."""
        file = self.path / "result.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def check(self) -> None:
        """Make sure that the directory is this run's own or nobody's.

        Raises:
            ValueError: the directory belongs to a run of another identity; the message shows the differences.
        """
        stored_path = self.path / "identity.json"
        if not stored_path.exists():
            return
        changes = differences(json.loads(stored_path.read_text(encoding="utf-8")), self.identity)
        if changes:
            raise ValueError(
                f"The run directory {self.path} belongs to a run of another identity. Stored → given:\n  "
                + "\n  ".join(changes)
                + "\nHINT: leave out `--run.dir` to start this run in a directory of its own; add `--run.fork_from "
                f"{self.last_checkpoint}` to continue there from what was trained here, with the given values."
            )

    def open(self) -> Path | None:
        """Claim the directory for this run, see also :meth:`check`.

        Returns:
            The checkpoint to go on from: the run's own last one, the one to fork from, or None for a new run.

        Raises:
            FileNotFoundError: the checkpoint to fork from does not exist.
        """
        fork = self.run.fork_from
        if fork is not None and not Path(fork).is_file():
            raise FileNotFoundError(f"run.fork_from: there is no checkpoint {fork}. Give the path of a .ckpt file.")
        # With `fresh` only the first process discards; the others must not look at what it may not have discarded yet.
        own = self.last_checkpoint if self.last_checkpoint.exists() and not self.run.fresh else None
        self._claim()
        return own if own is not None or fork is None else Path(fork)

    @rank_zero_only
    def _claim(self) -> None:
        if self.run.fresh and (self.path / "identity.json").exists():
            for name in _CONTENTS:
                path = self.path / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        write_text(self.path / "identity.json", json.dumps(self.identity, indent=2, sort_keys=True) + "\n")
