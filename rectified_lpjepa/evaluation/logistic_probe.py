"""Logistic regression on features, for what an evaluation makes of its probabilities.

Shape suffixes: N training samples, B samples, F features, C classes.
"""

from __future__ import annotations

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from rectified_lpjepa.evaluation.features import FeatureSet, require_labels

_INVERSE_REGULARIZATION, _TOLERANCE, _MOST_ITERATIONS = 0.1, 1e-3, 1000


class LogisticProbe:
    """Multinomial logistic regression on features that are standardised by their training set.

    Args:
        features_NF: training features, floating point, on the CPU.
        labels_N: int64, from 0; two classes or more.
        num_classes: number C of classes; one without a training sample has probability 0.
    """

    protocol = (
        "scikit-learn's LogisticRegression (multinomial, L2 penalty, lbfgs) on the training split, "
        f"C = {_INVERSE_REGULARIZATION}, tol = {_TOLERANCE}, features standardised by the training split"
    )
    """How it is fitted, in words."""

    def __init__(self, features_NF: Tensor, labels_N: Tensor, num_classes: int) -> None:
        self.num_classes = num_classes
        regression = LogisticRegression(C=_INVERSE_REGULARIZATION, tol=_TOLERANCE, max_iter=_MOST_ITERATIONS)
        self._pipeline = make_pipeline(StandardScaler(), regression).fit(features_NF.numpy(), labels_N.numpy())

    def probabilities(self, features_BF: Tensor) -> Tensor:
        """Compute the probability of each class, float64 (B, C), of features on the CPU."""
        probabilities_BC = torch.zeros(len(features_BF), self.num_classes, dtype=torch.float64)
        known = torch.from_numpy(self._pipeline.classes_)
        probabilities_BC[:, known] = torch.from_numpy(self._pipeline.predict_proba(features_BF.numpy())).double()
        return probabilities_BC


def fit_probes(train: FeatureSet, test: FeatureSet) -> tuple[dict[str, LogisticProbe], str]:
    """Fit a probe to each kind of features.

    Args:
        train: features to fit them to.
        test: features that they will be asked about.

    Returns:
        Probes by kind, and how they are fitted; for data without labels, or of one class, none, and why.
    """
    try:
        num_classes = require_labels(train, "A linear probe")
        require_labels(test, "A linear probe")
    except ValueError as error:
        return {}, f"left out: {error}"
    probes = {
        kind: LogisticProbe(features_NF, train.labels, num_classes) for kind, features_NF in train.kinds().items()
    }
    return probes, LogisticProbe.protocol
