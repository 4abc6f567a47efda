"""Logistic regression on features, for what an evaluation makes of its probabilities.

Shape suffixes: N training samples, B samples, F features, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rectified_lpjepa.evaluation.features import FeatureSet, require_labels
from rectified_lpjepa.evaluation.scaling import Standardizer
from rectified_lpjepa.functional.logistic_regression import fit_logistic_regression

_PENALTY = 10.0
_TOLERANCE = 3e-4  # coarse, but accuracies are those of 1e-5 within 0.1 points, in a third of the time


class LogisticProbe:
    """Multinomial logistic regression on features that are standardised by their training set.

    Args:
        features_NF: training features, floating point, on the device where to compute.
        labels_N: int64, from 0.
        num_classes: number C of classes.
    """

    protocol = (
        f"logistic regression, sum of cross-entropies + penalty / 2 · ‖W‖², penalty {_PENALTY:g}, L-BFGS to a "
        f"gradient of {_TOLERANCE:g}, on features standardised by mean and standard deviation of all training samples"
    )
    """How it is fitted, in words."""

    def __init__(self, features_NF: Tensor, labels_N: Tensor, num_classes: int) -> None:
        self._standardize = Standardizer.of(features_NF)
        self._weight_CF, self._bias_C = fit_logistic_regression(
            self._standardize(features_NF),
            labels_N.to(features_NF.device),
            num_classes,
            _PENALTY,
            tolerance=_TOLERANCE,
        )

    def probabilities(self, features_BF: Tensor) -> Tensor:
        """Compute the probability of each class, float64 (B, C) on the CPU, of features wherever they are."""
        logits_BC = F.linear(self._standardize(features_BF), self._weight_CF, self._bias_C)
        return logits_BC.cpu().double().softmax(dim=1)


def fit_probes(train: FeatureSet, test: FeatureSet, device: torch.device) -> tuple[dict[str, LogisticProbe], str]:
    """Fit a probe to each kind of features.

    Args:
        train: features to fit them to.
        test: features that they will be asked about.
        device: where to compute.

    Returns:
        Probes by kind, and how they are fitted; for data without labels, or of one class, none, and why.
    """
    try:
        num_classes = require_labels(train, "A linear probe")
        require_labels(test, "A linear probe")
    except ValueError as error:
        return {}, f"left out: {error}"
    probes = {
        kind: LogisticProbe(features_NF.to(device), train.labels, num_classes)
        for kind, features_NF in train.kinds().items()
    }
    return probes, LogisticProbe.protocol
