"""How well a score tells unusual samples from usual ones.

Shape suffixes: N usual samples, M unusual ones, B queries, F features.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor


class Detection(NamedTuple):
    """Quality of a score, of which unusual samples should have more."""

    auroc: float
    """Chance that an unusual sample has the higher score of the two; of equal scores one half. In [0, 1]."""
    aupr: float
    """Average precision, the unusual samples being the positive ones; their share for a score that says nothing."""
    fpr95: float
    """Share of the unusual samples taken for usual at the threshold that keeps 95 % of the usual ones (``FPR@95TPR``,
    the usual samples being the positive ones, as in Sun et al. 2022)."""


def detection(usual_N: Tensor, unusual_M: Tensor) -> Detection:
    """Measure how well a score tells unusual samples from usual ones.

    A constant score has an AUROC of 1/2, an average precision of M / (N + M) and a false positive rate of 1.

    Args:
        usual_N: scores of usual samples, floating point, on the CPU.
        unusual_M: scores of unusual samples.

    Returns:
        Three numbers in [0, 1]; NaN where either kind of samples is missing.
    """
    if not (len(usual_N) and len(unusual_M)):
        return Detection(math.nan, math.nan, math.nan)
    is_unusual = np.repeat([False, True], [len(usual_N), len(unusual_M)])
    scores = torch.cat([usual_N, unusual_M]).numpy()
    kept = -(-95 * len(usual_N) // 100)  # rounded up, in whole numbers
    threshold = usual_N.sort().values[kept - 1]
    return Detection(
        float(roc_auc_score(is_unusual, scores)),
        float(average_precision_score(is_unusual, scores)),
        float((unusual_M <= threshold).double().mean()),
    )


def neighbor_distances(queries_BF: Tensor, bank_NF: Tensor, k: int, chunk: int = 1024) -> Tensor:
    """Compute the Euclidean distance to the k-th nearest row of a bank, all rows being scaled to length one.

    This is the score of Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors (ICML 2022). A row of
    zeros stays as it is.

    Args:
        queries_BF: float32.
        bank_NF: float32, on the same device.
        k: 1 for the nearest row.
        chunk: queries that are compared with the bank at a time.

    Returns:
        float32 (B,), from 0 to 2.

    Raises:
        ValueError: the bank has fewer than ``k`` rows.
    """
    if not 1 <= k <= len(bank_NF):
        raise ValueError(f"k is {k}. It must lie between 1 and {len(bank_NF)}, the number of training samples.")
    bank_NF = F.normalize(bank_NF, dim=1)
    nearest = [
        torch.cdist(F.normalize(rows_BF, dim=1), bank_NF).topk(k, dim=1, largest=False).values
        for rows_BF in queries_BF.split(chunk)
    ]
    return torch.cat([distances_Bk[:, -1] for distances_Bk in nearest])
