"""Differential entropy by distances to neighbours: Kozachenko & Leonenko 1987, as Kraskov et al. 2004 write it."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma


def nearest_neighbor_entropy(x: NDArray[np.float64], k: int = 5) -> float:
    """Estimate ψ(N) − ψ(k) + D mean ln(2 ε), in nats, of samples (N, D), ε being the largest difference to the k-th."""
    distances, _ = cKDTree(x).query(x, k + 1, p=math.inf)
    return float(digamma(len(x)) - digamma(k) + x.shape[1] * np.log(2 * distances[:, k]).mean())
