"""Which features are active: per class, and how the active sets of two samples overlap.

A feature is active in a sample where it is not zero. Shape suffixes: N samples or pairs of them, D features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def class_activity(z_ND: Tensor, labels_N: Tensor, num_classes: int) -> Tensor:
    """Compute in which share of each class's samples each feature is active.

    Args:
        z_ND: features, any real dtype.
        labels_N: int64, from 0 to ``num_classes`` − 1.
        num_classes: number C of classes.

    Returns:
        float64 (C, D); NaN for a class without samples.
    """
    active_ND = (z_ND != 0).double()
    sums_CD = active_ND.new_zeros(num_classes, z_ND.shape[1]).index_add_(0, labels_N, active_ND)
    return sums_CD / labels_N.bincount(minlength=num_classes).double().unsqueeze(1)


def jaccard_index(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """Compute the overlap ``|A ∩ B| / |A ∪ B|`` of the active sets of each pair of samples.

    Args:
        a_ND: features of the first sample of each pair.
        b_ND: features of the second.

    Returns:
        float64 (N,) in [0, 1]; NaN where neither sample has an active feature.
    """
    a_ND, b_ND = a_ND != 0, b_ND != 0
    return (a_ND & b_ND).sum(1).double() / (a_ND | b_ND).sum(1)


def expected_jaccard_index(a_N: Tensor, b_N: Tensor, dim: int) -> Tensor:
    """Compute the mean Jaccard index of two independent sets, each uniform among the sets of its size.

    The size I of the intersection is hypergeometric, and the index is I / (a + b − I).

    Args:
        a_N: size of the first set of each pair, int64, 0 to D.
        b_N: size of the second.
        dim: number D of features that the sets are drawn from.

    Returns:
        float64 (N,); NaN where both sets are empty.
    """
    sizes_P2, pair_N = torch.stack([a_N, b_N], dim=1).unique(dim=0, return_inverse=True)
    a_P1, b_P1 = sizes_P2[:, :1], sizes_P2[:, 1:]
    log_factorial = torch.lgamma(torch.arange(dim + 1, dtype=torch.float64, device=a_N.device) + 1)

    def log_binomial(n: Tensor, k: Tensor) -> Tensor:
        inside = (k >= 0) & (k <= n)
        k = torch.where(inside, k, 0)
        return torch.where(inside, log_factorial[n] - log_factorial[k] - log_factorial[n - k], -torch.inf)

    common_I = torch.arange(dim + 1, device=a_N.device)
    log_mass_PI = log_binomial(a_P1, common_I) + log_binomial(dim - a_P1, b_P1 - common_I)
    log_mass_PI = log_mass_PI - log_binomial(torch.full_like(b_P1, dim), b_P1)
    # Where the mass is zero the union may be, too.
    index_PI = common_I.double() / (a_P1 + b_P1 - common_I).clamp(min=1)
    expected_P = (log_mass_PI.exp() * index_PI).sum(1)
    return torch.where(sizes_P2.sum(1) > 0, expected_P, torch.nan)[pair_N]


def draw_pairs(labels_N: Tensor, num: int, *, same_class: bool, generator: torch.Generator) -> Tensor:
    """Draw pairs of different samples, of one class or of two.

    The first sample is uniform among those that have a partner, the second uniform among its partners.

    Args:
        labels_N: int64 class of each sample, on the CPU.
        num: number P of pairs, drawn independently.
        same_class: whether the two samples share their class, or differ in it.
        generator: of the draws.

    Returns:
        int64 (P, 2), the positions of both samples; (0, 2) if no two samples make such a pair.
    """
    order_N = labels_N.argsort(stable=True)
    _, class_N, counts_C = labels_N[order_N].unique(return_inverse=True, return_counts=True)
    end_N, size_N = counts_C.cumsum(0)[class_N], counts_C[class_N]
    partners_N = size_N - 1 if same_class else len(labels_N) - size_N
    able = (partners_N > 0).nonzero().flatten()
    if not len(able):
        return torch.empty(0, 2, dtype=torch.int64)
    first = able[torch.randint(len(able), (num,), generator=generator)]
    # float64 holds every integer there can be, and a draw below 1 times n stays below n after rounding down.
    step = (torch.rand(num, generator=generator, dtype=torch.float64) * partners_N[first]).long()
    # Classes lie one after the other in `order_N`: step on within the class, or from its end on around the rest.
    start = end_N - size_N
    if same_class:
        second = start[first] + (first - start[first] + 1 + step) % size_N[first]
    else:
        second = (end_N[first] + step) % len(labels_N)
    return torch.stack([order_N[first], order_N[second]], dim=1)
