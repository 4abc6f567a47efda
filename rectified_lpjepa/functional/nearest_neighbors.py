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


class NeighborBank:
    """Samples with labels, among which the nearest of any query vote for its class; searched exactly, in float64.

    A difference of two squared norms loses half of the digits, which float32 cannot spare.

    Args:
        features: floating point (N, F).
        labels: int64 (N,), from 0 to C − 1, on the same device.
        num_classes: number C of classes.
        metric: which samples are near. The cosine similarity to a row of zeros is 0.
    """

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int, metric: Metric) -> None:
        self.metric = metric
        self.labels_N = labels
        self.num_classes = num_classes
        self.features_NF = self._prepared(features)
        self.squares_N = self.features_NF.square().sum(dim=1)

    def _prepared(self, features: Tensor) -> Tensor:
        return F.normalize(features.double(), dim=1) if self.metric == "cosine" else features.double()

    def votes(self, queries: Tensor, k: int, temperature: float = 0.07) -> Tensor:
        """Sum the votes of the k nearest samples for their classes.

        Under ``euclidean`` a sample at the distance d votes with 1 / (d + 1e-5); under ``cosine`` one of similarity s
        with exp((s − 1) / temperature), which is exp(s / temperature) up to a factor that all votes share.

        Args:
            queries: floating point (B, F).
            k: number of neighbours, at most N.
            temperature: of the votes under ``cosine``.

        Returns:
            Votes, float64 (B, C).

        Raises:
            ValueError: the bank has fewer than ``k`` samples.
        """
        if not 1 <= k <= len(self.labels_N):
            raise ValueError(f"k is {k}. It must lie between 1 and {len(self.labels_N)}, the samples of the bank.")
        queries_BF = self._prepared(queries)
        if self.metric == "cosine":
            similarities_Bk, indices_Bk = (queries_BF @ self.features_NF.T).topk(k, dim=1)
            weights_Bk = ((similarities_Bk - 1) / temperature).exp()
        else:
            # Squared distances, up to the square of the query.
            squares_BN = torch.addmm(self.squares_N, queries_BF, self.features_NF.T, alpha=-2)
            indices_Bk = squares_BN.topk(k, dim=1, largest=False).indices
            # From the differences themselves, so that a copy of a query is at the distance 0.
            distances_Bk = (queries_BF[:, None] - self.features_NF[indices_Bk]).norm(dim=2)
            weights_Bk = 1 / (distances_Bk + _CLOSEST)
        votes_BC = queries_BF.new_zeros(len(queries_BF), self.num_classes)
        return votes_BC.scatter_add_(1, self.labels_N[indices_Bk], weights_Bk)
