"""The file of an evaluation: how it is written and read, and when what it holds still counts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import rectified_lpjepa
from rectified_lpjepa.evaluation.features import Evaluation


class Basis(NamedTuple):
    """What decides the numbers of an evaluation, beside the version of this package and other data that it opens."""

    weights: str | None
    """SHA-256 of the model's weights; None where they are no longer there, and are taken to be the same."""
    data: str | None
    """The :func:`~rectified_lpjepa.evaluation.subject.fingerprint` of the subject's data; None as for the weights."""
    options: Mapping[str, Any]
    """All options, those left out with their defaults."""
    seed: int
    """Of every draw."""


def is_current(record: Mapping[str, Any], basis: Basis, fingerprint_of: Callable[[str], str | None]) -> bool:
    """Say whether an evaluation would find the same again, so that it need not be made.

    Args:
        record: what was written when it was made.
        basis: what it would be made of now.
        fingerprint_of: gives the fingerprint of one of the other data sets as it is now, by the name that it was opened
            by; None where it is no longer there, and is taken to be the same. It is asked where all else agrees.
    """
    others = record.get("others")
    was = [record.get("options"), record.get("seed"), record.get("versions", {}).get("rectified_lpjepa")]
    if was != [json.loads(to_json(basis.options)), basis.seed, rectified_lpjepa.__version__] or others is None:
        return False
    fingerprints = {"checkpoint": ("sha256", basis.weights), "data": ("fingerprint", basis.data)}
    for part, (key, now) in fingerprints.items():
        if now is not None and record.get(part, {}).get(key) != now:
            return False
    return all(fingerprint_of(name) in (known, None) for name, known in others.items())


def to_json(record: Mapping[str, Any]) -> str:
    """Write plain values as JSON; what is not a finite number becomes null."""
    return json.dumps(_plain(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def read_evaluation(path: Path) -> Evaluation:
    """Read what an evaluation has found; a number that was not finite is NaN.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    return evaluation_of(read_record(path))


def read_record(path: Path) -> dict[str, Any]:
    """Read all that stands in the file of an evaluation; a number that was not finite is None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    try:
        record = json.loads(path.read_text())
        parts = [record["metrics"], *(record.get(part, {}) for part in ("versions", "checkpoint", "data", "others"))]
        assert all(isinstance(part, dict) for part in parts)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"{path} is damaged, or not of an evaluation. HINT: delete it, and evaluate again.") from error
    assert isinstance(record, dict)
    return record


def evaluation_of(record: Mapping[str, Any]) -> Evaluation:
    """Take what was found out of a record; a number that was not finite is NaN."""
    metrics = {name: math.nan if value is None else value for name, value in record["metrics"].items()}
    return Evaluation(record["name"], record["protocol"], metrics, record["details"])
