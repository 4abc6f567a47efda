"""The model's arguments as a checkpoint keeps them: plain values, so that reading it runs no code."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from rectified_lpjepa.objectives import Objective


def plain_hyperparameters(**arguments: Any) -> dict[str, Any]:
    """Turn the arguments of a model into numbers, strings, lists and dicts alone.

    Args:
        **arguments: plain values, dataclasses, and objectives, by name.

    Returns:
        The same by name, from which ``load_from_checkpoint`` builds the model again: of an objective its
        ``class_path`` and ``init_args``, of a dataclass its fields, of a tuple a list.
    """
    return {"_instantiator": "lightning.pytorch.cli.instantiate_module"} | {
        name: _plain(value) for name, value in arguments.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Objective):
        kind = type(value)
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": _plain(value.init_args)}
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
