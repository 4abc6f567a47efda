"""The evaluations by name."""

from __future__ import annotations

from collections.abc import Callable

from rectified_lpjepa.evaluation.features import Evaluation
from rectified_lpjepa.evaluation.knn import knn

EVALUATIONS: dict[str, Callable[..., Evaluation]] = {
    "knn": knn,
}
"""Functions of a subject and options. One whose options lack a default cannot be run unasked."""
