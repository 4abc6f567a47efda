"""What evaluations of a run have found, as far as it is of the run's weights and of the options asked for."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


def stored_metrics(
    path: Path, name: str, options: Mapping[str, Any], *, checkpoint: Path, datasets: Collection[str] = ()
) -> dict[str, float]:
    """Read the metrics of an evaluation; none where it has not been made, or of other weights or with other options.

    Args:
        path: that the evaluation was written to.
        name: of the evaluation.
        options: that are asked for; what is left out has its default.
        checkpoint: whose weights are asked for; where it is no longer there, the weights are taken to be its.
        datasets: names of data sets that were made; in stored options their paths stand for them.

    Returns:
        What is defined of the metrics, by name.

    Raises:
        ValueError: there is no such evaluation or option.
    """
    if not path.exists():
        return {}
    # They import PyTorch Lightning and timm, which to look at runs without evaluations takes too long.
    from rectified_lpjepa.evaluation.models import sha256_of_file
    from rectified_lpjepa.evaluation.run import read_record, to_json, with_defaults

    try:
        record = read_record(path)
    except ValueError:  # damaged, and made anew by the next evaluation
        return {}
    asked = json.loads(to_json(with_defaults(name, options)))
    if _named(record.get("options"), {f"{each}.npz": each for each in datasets}) != asked:
        return {}
    if checkpoint.exists() and record.get("checkpoint", {}).get("sha256") != sha256_of_file(checkpoint):
        return {}
    return {metric: value for metric, value in record["metrics"].items() if value is not None}


def _named(value: Any, names: Mapping[str, str]) -> Any:
    """Put the names of data sets that were made in the place of their paths, wherever they lay."""
    if isinstance(value, Mapping):
        return {key: _named(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [_named(part, names) for part in value]
    return names.get(Path(value).name, value) if isinstance(value, str) else value
