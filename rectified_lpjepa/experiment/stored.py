"""What evaluations of an experiment's runs have found, as far as they would find it again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rectified_lpjepa.data import TwoViewDataModule


class StoredEvaluations:
    """The files of evaluations, by the rule by which these are not made again.

    What is no longer there, weights or data, is taken to be what it was, so that runs can be looked at without it. What
    is there is read once: make another one to look again.

    Args:
        datasets: names of data sets that were made for the evaluations; in stored options their paths stand for them.
        folder: where these lie, each as ``<name>.npz``.
    """

    def __init__(self, datasets: Collection[str], folder: Path) -> None:
        self._made = {f"{name}.npz": name for name in datasets}
        self._folder = folder
        self._weights = cache(_weights)
        self._data = cache(_data)
        self._other = cache(_other)

    def metrics(
        self, path: Path, name: str, options: Mapping[str, Any], *, checkpoint: Path, seed: int
    ) -> dict[str, float]:
        """Read the metrics of an evaluation; none where it has not been made, or would be made again.

        Args:
            path: that the evaluation was written to.
            name: of the evaluation.
            options: that are asked for; what is left out has its default.
            checkpoint: that is evaluated, in the directory of its run.
            seed: of the run.

        Returns:
            What is defined of the metrics, by name.

        Raises:
            ValueError: there is no such evaluation or option.
        """
        if not path.exists():
            return {}
        # They import PyTorch Lightning and timm, which to look at runs without evaluations takes too long.
        from rectified_lpjepa.evaluation.records import Basis, is_current, read_record
        from rectified_lpjepa.evaluation.run import with_defaults
        from rectified_lpjepa.evaluation.subject import run_directory

        asked = with_defaults(name, options)
        try:
            record = read_record(path)
        except ValueError:  # damaged, and made anew by the next evaluation
            return {}
        data = self._data_of(run_directory(checkpoint) / "config.yaml")

        def other(opened: str) -> str | None:
            file = Path(opened).name
            return data and self._other(str(self._folder / file) if file in self._made else opened, data.image_size)

        basis = Basis(self._weights(checkpoint), data and data.fingerprint, asked, seed)
        named = record | {"options": _named(record.get("options"), self._made)}
        if not is_current(named, basis, other):
            return {}
        return {metric: value for metric, value in record["metrics"].items() if value is not None}

    def _data_of(self, config: Path) -> _Data | None:
        from rectified_lpjepa.evaluation.subject import data_settings

        try:
            settings = data_settings(config, seed=0)  # the same for the runs of all seeds: they are opened once
        except (FileNotFoundError, ValueError):
            return None
        return self._data(json.dumps(settings, sort_keys=True))


class _Data(NamedTuple):
    fingerprint: str | None
    image_size: int


def _weights(checkpoint: Path) -> str | None:
    from rectified_lpjepa.evaluation.models import sha256_of_file

    return sha256_of_file(checkpoint) if checkpoint.exists() else None


def _data(settings: str) -> _Data | None:
    from rectified_lpjepa.evaluation.subject import make_data

    try:
        data = make_data(json.loads(settings))
    except (FileNotFoundError, ValueError):
        return None
    return _Data(_fingerprint(data), data.image_size)


def _other(name: str, image_size: int) -> str | None:
    from rectified_lpjepa.evaluation.datasets import DataSource

    try:
        return _fingerprint(DataSource().open(name, image_size=image_size))
    except (FileNotFoundError, ValueError):
        return None


def _fingerprint(data: TwoViewDataModule) -> str | None:
    from rectified_lpjepa.evaluation.subject import fingerprint

    try:
        return fingerprint(data)
    except (FileNotFoundError, ValueError):
        return None


def _named(value: Any, names: Mapping[str, str]) -> Any:
    """Put the names of data sets that were made in the place of their paths, wherever they lay."""
    if isinstance(value, Mapping):
        return {key: _named(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [_named(part, names) for part in value]
    return names.get(Path(value).name, value) if isinstance(value, str) else value
