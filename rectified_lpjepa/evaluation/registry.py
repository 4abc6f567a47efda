"""The evaluations by name."""

from __future__ import annotations

from collections.abc import Callable

from rectified_lpjepa.evaluation.distribution import distribution
from rectified_lpjepa.evaluation.features import Evaluation
from rectified_lpjepa.evaluation.independence import independence
from rectified_lpjepa.evaluation.knn import knn
from rectified_lpjepa.evaluation.rank import rank
from rectified_lpjepa.evaluation.sparsity import sparsity

EVALUATIONS: dict[str, Callable[..., Evaluation]] = {
    "knn": knn,
    "sparsity": sparsity,
    "independence": independence,
    "distribution": distribution,
    "rank": rank,
}
"""Functions of a subject and options. One whose options lack a default cannot be run unasked."""
