"""Multinomial logistic regression with an L2 penalty.

Shape suffixes: N samples, F features, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_MAX_ITERATIONS = 200


def fit_logistic_regression(
    features_NF: Tensor,
    labels_N: Tensor,
    num_classes: int,
    penalty: float = 1.0,
    *,
    tolerance: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """Minimise the sum of the cross-entropies plus penalty/2 · ‖W‖², the biases without a penalty.

    That is the objective of ``sklearn.linear_model.LogisticRegression(C=1 / penalty)``, by at most 200 iterations of
    L-BFGS on the features' device.

    Args:
        features_NF: float32 or float64 (N, F).
        labels_N: int64 (N,), from 0 to C − 1; classes may be without samples.
        num_classes: number C of classes.
        penalty: weight of the penalty, positive.
        tolerance: largest entry of the gradient of the mean objective at which to stop.

    Returns:
        Weights (C, F) and biases (C,).
    """
    samples, dim = features_NF.shape
    weight_CF = features_NF.new_zeros(num_classes, dim, requires_grad=True)
    bias_C = features_NF.new_zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_CF, bias_C],
        max_iter=_MAX_ITERATIONS,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(features_NF, weight_CF, bias_C), labels_N)
        loss = loss + penalty / (2 * samples) * weight_CF.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight_CF.detach(), bias_C.detach()
