"""The identity of a run: a run directory's name and a stored hash come from the configuration and the seed.

Keys are of two kinds. Identity keys (model, target, objective, data, batch, optimiser, schedule, epochs, seed) decide
what the numbers of a run mean; continuing a run with another value is refused. Runtime keys (devices, nodes, workers,
loggers, paths) may change from start to start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

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
    if not arguments.get("local_crops", {}).get("num"):
        arguments.pop("local_crops", None)  # none are none, whatever their size
    return {
        "seed_everything": config["seed_everything"],
        "model": {key: value for key, value in config["model"].items() if key not in _RUNTIME_MODEL_KEYS},
        "data": {"class_path": data["class_path"], "init_args": arguments, "fingerprint": fingerprint},
        "trainer": {key: config["trainer"].get(key) for key in _IDENTITY_TRAINER_KEYS},
    }


def identity_hash(identity_: Mapping[str, Any]) -> str:
    """Hash an identity to eight hexadecimal digits, the same on every machine."""
    return hashlib.sha256(json.dumps(identity_, sort_keys=True).encode()).hexdigest()[:8]


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Give the values of a nested mapping under their dotted keys."""
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from leaves(part, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """List the keys in which two identities differ, one line each: ``key: stored → given``."""
    old, new = dict(leaves(stored)), dict(leaves(given))
    missing = "(absent)"
    return [
        f"{key}: {old.get(key, missing)} → {new.get(key, missing)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, missing) != new.get(key, missing)
    ]


def is_identity_option(option: str) -> bool:
    """Say whether a dotted option of ``fit``, such as ``model.optimizer.lr``, is an identity key."""
    group, _, name = option.partition(".")
    if group == "data":
        return name.removeprefix("init_args.") not in _RUNTIME_DATA_KEYS
    if group == "model":
        return name not in _RUNTIME_MODEL_KEYS
    return option == "seed_everything" or (group == "trainer" and name in _IDENTITY_TRAINER_KEYS)
