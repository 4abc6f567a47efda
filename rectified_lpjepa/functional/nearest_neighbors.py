"""Exact nearest neighbours and their weighted votes.

Shape suffixes: B queries, N samples of the bank, F features, C classes.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Metric = Literal["euclidean", "cosine"]
METRICS: tuple[Metric, ...] = get_args(Metric)

_CLOSEST = 1e-5  # added to a distance before a vote is divided by it


def neighbor_votes(
    queries_BF: Tensor,
    bank_NF: Tensor,
    labels_N: Tensor,
    num_classes: int,
    k: int,
    metric: Metric,
    temperature: float = 0.07,
) -> Tensor:
    """Sum the votes of the k nearest samples of a bank for their classes.

    Under ``euclidean`` a sample at the distance d votes with 1 / (d + 1e-5); under ``cosine`` one of similarity s with
    exp((s − 1) / temperature), which is exp(s / temperature) up to a factor that all votes share. The similarity to a
    row of zeros is 0.

    Args:
        queries_BF: floating point (B, F).
        bank_NF: floating point (N, F).
        labels_N: int64 (N,), from 0 to C − 1.
        num_classes: number C of classes.
        k: number of neighbours, at most N.
        metric: which samples are near.
        temperature: of the votes under ``cosine``.

    Returns:
        Votes, float64 (B, C).

    Raises:
        ValueError: the bank has fewer than ``k`` samples.
    """
    if not 1 <= k <= len(bank_NF):
        raise ValueError(f"k is {k}. It must lie between 1 and {len(bank_NF)}, the number of samples of the bank.")
    # In float64, as scikit-learn does: a difference of two squared norms loses half of the digits.
    queries_BF, bank_NF = queries_BF.double(), bank_NF.double()
    if metric == "cosine":
        similarities_BN = F.normalize(queries_BF, dim=1) @ F.normalize(bank_NF, dim=1).T
        nearest_Bk, indices_Bk = similarities_BN.topk(k, dim=1)
        weights_Bk = ((nearest_Bk - 1) / temperature).exp()
    else:
        squares_BN = bank_NF.square().sum(1) - 2 * (queries_BF @ bank_NF.T)  # up to the square of the query
        indices_Bk = squares_BN.topk(k, dim=1, largest=False).indices
        # From the differences themselves, so that a copy of a query is at the distance 0.
        distances_Bk = torch.stack(
            [(queries_BF - bank_NF[column]).norm(dim=1) for column in indices_Bk.unbind(1)], dim=1
        )
        weights_Bk = 1 / (distances_Bk + _CLOSEST)
    votes_BC = queries_BF.new_zeros(len(queries_BF), num_classes)
    return votes_BC.scatter_add_(1, labels_N[indices_Bk], weights_Bk)
