"""Entropies of single features, estimated from samples.

Shape suffixes: N samples, D features.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import differential_entropy
from torch import Tensor

FEWEST = 5
"""Values that an entropy of the continuous part is estimated from at least."""


def marginal_entropies(z_ND: Tensor) -> Tensor:
    """Estimate the d(ξ)-dimensional entropy of each feature, whose law is a point mass at zero and a density elsewhere.

    With ρ the share of values that are not zero it is H₀(Bernoulli(ρ)) + ρ H₁ (arXiv 2602.01456, Theorem 3.6), H₁ being
    the differential entropy of these values: the spacing estimator of Ebrahimi et al. 1994, Vasicek's with the
    correction at both ends, as :func:`scipy.stats.differential_entropy` computes it. A law without a point mass has
    ρ = 1: for it this is the differential entropy.

    Of fewer than ``FEWEST`` non-zero values no H₁ can be estimated, and it is counted as 0; a feature that is always
    zero has entropy 0 by definition.

    Args:
        z_ND: features, floating point, on the CPU.

    Returns:
        Nats, float64 (D,); −∞ for a feature that has point masses elsewhere, so many that neighbours coincide.
    """
    samples = len(z_ND)
    entropies = []
    for z_N in z_ND.T.double().numpy():
        active = z_N[z_N != 0]
        share = len(active) / samples
        coin = -sum(q * math.log(q) for q in (share, 1 - share) if q > 0)
        with np.errstate(divide="ignore"):  # the logarithm of a spacing of zero
            density = float(differential_entropy(active, method="ebrahimi")) if len(active) >= FEWEST else 0.0
        entropies.append(coin + share * density)
    return torch.tensor(entropies, dtype=torch.float64)
