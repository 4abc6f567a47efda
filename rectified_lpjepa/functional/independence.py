"""How dependent features are: normalised HSIC of each pair, and the total correlation of a Gaussian copula.

Shape suffixes: N samples, D features.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

_BLOCK_NUMBERS = 1 << 24


def median_bandwidth(x_ND: Tensor) -> Tensor:
    """Compute the median of the distances ``|x − x'|`` that are not zero between the samples of each feature.

    Zero distances are left out, as otherwise the median of a sparse feature, most of whose values are zero, would be
    zero. Of an even number of distances it is the lower one of the two in the middle.

    Args:
        x_ND: features, float32 or float64, on the CPU.

    Returns:
        (D,); NaN for a constant feature.
    """
    first, second = np.triu_indices(len(x_ND), 1)
    medians = []
    # With NumPy: PyTorch would start its threads anew for each of many small steps, which on busy cores takes longest.
    for x_N in x_ND.T.numpy():
        distances = np.abs(x_N[first] - x_N[second])
        distances = distances[distances > 0]
        middle = (len(distances) - 1) // 2
        medians.append(np.partition(distances, middle)[middle] if len(distances) else np.nan)
    return torch.tensor(medians, dtype=x_ND.dtype)


def normalized_hsic(x_ND: Tensor, bandwidth_D: Tensor) -> Tensor:
    """Compute the normalised Hilbert-Schmidt independence criterion of each pair of features.

    With K and L the centred Gaussian kernel matrices exp(−(x − x')² / (2 s²)) of two features, each with a bandwidth s
    of its own, it is ⟨K, L⟩ / (‖K‖ ‖L‖) in the Frobenius product: the biased HSIC of Gretton et al. 2005, normalised as
    in Cortes et al. 2012. Its expectation for independent features is not 0, but of the order of 1 / N: compare it with
    that of the same features, each with its samples in a random order.

    Args:
        x_ND: features, float32 or float64.
        bandwidth_D: bandwidth s of each feature, such as :func:`median_bandwidth`.

    Returns:
        float64 (D, D) in [0, 1], symmetric, with ones on the diagonal. A constant feature has 0 with all features and
        with itself.
    """
    samples, dim = x_ND.shape
    x_DN = x_ND.T.contiguous()
    varies_D = (x_DN != x_DN[:, :1]).any(dim=1)
    width_D11 = torch.where(varies_D, math.sqrt(2) * bandwidth_D.to(x_DN), 1.0)[:, None, None]
    rows = max(1, _BLOCK_NUMBERS // (samples * dim))

    def kernel_rows(first: int) -> Tensor:
        # Divided before it is squared: the squares of small and of large numbers leave the range of float32.
        return torch.exp(-((x_DN[:, first : first + rows, None] - x_DN[:, None, :]) / width_D11).square())

    mean_DN = torch.cat([kernel_rows(first).mean(2) for first in range(0, samples, rows)], dim=1)
    grand_D11 = mean_DN.mean(1)[:, None, None]
    products_DD = torch.zeros(dim, dim, dtype=torch.float64, device=x_DN.device)
    for first in range(0, samples, rows):
        centred = kernel_rows(first) - mean_DN[:, first : first + rows, None] - mean_DN[:, None, :] + grand_D11
        flat = centred.flatten(1)
        products_DD += flat @ flat.T
    norm_D = products_DD.diagonal().sqrt()
    normalized_DD = products_DD / (norm_D[:, None] * norm_D[None, :])
    both_DD = varies_D[:, None] & varies_D[None, :]
    # Products of positive semi-definite matrices are not negative; rounding may leave them so, or above one.
    return torch.where(both_DD, normalized_DD.clamp(0.0, 1.0), 0.0)


def mean_of_pairs(matrix_DD: Tensor) -> float:
    """Compute the mean of a symmetric matrix over the pairs of two different features; NaN for fewer than two."""
    dim = len(matrix_DD)
    first, second = torch.triu_indices(dim, dim, offset=1)
    return float(matrix_DD[first, second].mean())


def normal_scores(x_ND: Tensor, *, seed: int) -> Tensor:
    """Replace each value by the standard normal quantile of its rank, rank / (N + 1), with ties in a random order.

    With ties broken independently in each feature this is the distributional transform (Rüschendorf 2009): the scores
    are continuous, and their total correlation is that of the features, point masses and all.

    Args:
        x_ND: features, any real dtype, on the CPU.
        seed: of the order among ties.

    Returns:
        float64 (N, D); each column holds the same numbers in another order.
    """
    samples, dim = x_ND.shape
    random = np.random.default_rng(seed)
    quantiles = ndtri(np.arange(1, samples + 1) / (samples + 1))
    scores = np.empty((samples, dim))
    for column, x_N in enumerate(x_ND.T.numpy()):
        scores[np.lexsort((random.random(samples), x_N)), column] = quantiles
    return torch.from_numpy(scores)


def gaussian_total_correlation(scores_ND: Tensor) -> float:
    """Estimate the total correlation of Gaussian variables, −½ ln det R with R their correlation matrix, without bias.

    For Gaussian samples E ln det R̂ = ln det R + Σ_i [ψ((n − i + 1)/2) − ψ(n/2)], i = 1 … D and n = N − 1, from the
    Wishart law of the sample covariance (Muirhead 1982, Theorem 3.2.15); that excess is taken off.

    Of variables whose marginals alone are Gaussian, such as :func:`normal_scores`, it is a lower bound of the total
    correlation: among all laws with these marginals and this covariance the Gaussian has the largest entropy.

    Args:
        scores_ND: samples of the variables, none of them constant.

    Returns:
        Nats. NaN unless N > D, as otherwise R̂ is singular whatever R is; infinity if R̂ is singular nevertheless. Around
        a true value of 0 an unbiased estimate may be negative.
    """
    samples, dim = scores_ND.shape
    if samples <= dim:
        return float("nan")
    centred_ND = scores_ND.double() - scores_ND.double().mean(0)
    unit_ND = centred_ND / centred_ND.norm(dim=0)
    eigenvalues_D = torch.linalg.eigvalsh(unit_ND.T @ unit_ND)
    if bool(eigenvalues_D[0] <= dim * torch.finfo(torch.float64).eps):
        return math.inf
    freedom = torch.tensor(samples - 1.0, dtype=torch.float64)
    halves = (freedom - torch.arange(dim, dtype=torch.float64)) / 2
    bias = (torch.digamma(halves) - torch.digamma(freedom / 2)).sum()
    return float(-0.5 * (eigenvalues_D.log().sum() - bias))
