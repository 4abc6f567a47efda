"""The evaluations by name."""

from __future__ import annotations

from collections.abc import Callable

from rectified_lpjepa.evaluation.features import Evaluation
from rectified_lpjepa.evaluation.few_shot import few_shot
from rectified_lpjepa.evaluation.knn import knn
from rectified_lpjepa.evaluation.linear import linear
from rectified_lpjepa.evaluation.transfer import transfer

EVALUATIONS: dict[str, Callable[..., Evaluation]] = {
    "linear": linear,
    "knn": knn,
    "few-shot": few_shot,
    "transfer": transfer,
}
"""Functions of a subject and options. One with an option that has no default cannot be run unasked."""
