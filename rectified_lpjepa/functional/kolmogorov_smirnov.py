"""Kolmogorov-Smirnov statistics of many samples at once.

Shape suffixes: N values of a sample, D samples (one for each feature).
"""

from __future__ import annotations

import torch
from torch import Tensor


def ks_statistic(cdf_ND: Tensor, used_ND: Tensor | None = None) -> Tensor:
    """Compute the largest distance between the empirical distribution functions and F, one for each column.

    Args:
        cdf_ND: F at the sorted values of each sample, rising along N.
        used_ND: which values belong to their sample, bool, in each column the last ones; all by default.

    Returns:
        (D,) in [0, 1]; NaN for a sample without values.
    """
    if used_ND is None:
        used_ND = torch.ones_like(cdf_ND, dtype=torch.bool)
    count_D = used_ND.sum(0)
    rank_ND = torch.arange(1, len(cdf_ND) + 1, device=cdf_ND.device).unsqueeze(1) - (len(cdf_ND) - count_D)
    above_ND = rank_ND / count_D - cdf_ND
    below_ND = cdf_ND - (rank_ND - 1) / count_D
    distance_ND = torch.maximum(above_ND, below_ND)
    return torch.where(used_ND, distance_ND, -torch.inf).amax(0).where(count_D > 0, torch.nan)
