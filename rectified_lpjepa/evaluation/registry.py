"""The evaluations by name."""

from __future__ import annotations

from collections.abc import Callable

from rectified_lpjepa.evaluation.distribution import distribution
from rectified_lpjepa.evaluation.features import Evaluation
from rectified_lpjepa.evaluation.few_shot import few_shot
from rectified_lpjepa.evaluation.independence import independence
from rectified_lpjepa.evaluation.knn import knn
from rectified_lpjepa.evaluation.linear import linear
from rectified_lpjepa.evaluation.ood import ood
from rectified_lpjepa.evaluation.rank import rank
from rectified_lpjepa.evaluation.shift import shift
from rectified_lpjepa.evaluation.sparsity import sparsity
from rectified_lpjepa.evaluation.transfer import transfer

EVALUATIONS: dict[str, Callable[..., Evaluation]] = {
    "linear": linear,
    "knn": knn,
    "few-shot": few_shot,
    "transfer": transfer,
    "sparsity": sparsity,
    "independence": independence,
    "distribution": distribution,
    "rank": rank,
    "ood": ood,
    "shift": shift,
}
"""Functions of a subject and options. One with an option that has no default cannot be run unasked."""
