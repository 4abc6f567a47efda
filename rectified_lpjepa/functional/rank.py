"""How many dimensions features fill, and how far their covariance is from a multiple of the identity.

Shape suffixes: N samples, D features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def singular_values(z_ND: Tensor) -> Tensor:
    """Compute the singular values of the features, not centred: float64 (min(N, D),), falling."""
    values: Tensor = torch.linalg.svdvals(z_ND.double())
    return values


def rankme(singular_values: Tensor, epsilon: float = 1e-7) -> float:
    """Compute RankMe, exp(−Σ_k p_k ln p_k) with p_k = σ_k / ‖σ‖₁ + ε (Garrido et al. 2023, Eqs. 1-2).

    Args:
        singular_values: σ of the N × D feature matrix, (min(N, D),); see :func:`singular_values`.
        epsilon: ε, which the paper sets to 1e-7.

    Returns:
        From about 1 to min(N, D): with N ≤ D it says as much about N as about the features. Features that are all zero
        have rank 0.
    """
    return _exponential_entropy(singular_values, epsilon)


def effective_rank(singular_values: Tensor) -> float:
    """Compute the effective rank, exp(−Σ_k p_k ln p_k) with p_k = σ_k / ‖σ‖₁ and 0 ln 0 = 0 (Roy & Vetterli 2007).

    Args:
        singular_values: of the feature matrix, or the eigenvalues of a covariance, none negative.

    Returns:
        From 1 to their number; 0 if all are zero.
    """
    return _exponential_entropy(singular_values, 0.0)


def _exponential_entropy(values: Tensor, epsilon: float) -> float:
    total = values.sum()
    if not bool(total > 0):
        return 0.0
    return float(torch.special.entr(values.double() / total + epsilon).sum().exp())


class Covariance(NamedTuple):
    """What a covariance matrix C (D, D) says."""

    eigenvalues: Tensor
    """float64 (D,), falling; from the (N − 1)-th on they are zero, whatever the law."""
    off_diagonal_energy: float
    """Σ_{i≠j} C_ij² / Σ_ij C_ij², in [0, 1]; NaN for C = 0."""
    anisotropy: float
    """‖C − c I‖_F / ‖c I‖_F with c the mean eigenvalue: 0 for a multiple of the identity; NaN for C = 0."""
    condition: float
    """Largest over smallest eigenvalue; infinite for a singular C, as one of N ≤ D samples is."""


def covariance(z_ND: Tensor) -> tuple[Tensor, Covariance]:
    """Compute the unbiased covariance matrix of features, float64 (D, D), and describe it.

    Args:
        z_ND: features of N ≥ 2 samples.

    Raises:
        ValueError: fewer than two samples.
    """
    samples, dim = z_ND.shape
    if samples < 2:
        raise ValueError(f"A covariance needs at least 2 samples, got {samples}.")
    centred_ND = z_ND.double() - z_ND.double().mean(0)
    matrix_DD = centred_ND.T @ centred_ND / (samples - 1)
    values_D = torch.linalg.eigvalsh(matrix_DD).flip(0).clamp(min=0.0)
    # Rounding leaves the eigenvalue of a dimension without variance at about this size.
    values_D = torch.where(values_D > dim * torch.finfo(torch.float64).eps * values_D[0], values_D, 0.0)
    mean = values_D.mean()
    energy = matrix_DD.square().sum()
    described = Covariance(
        eigenvalues=values_D,
        off_diagonal_energy=float(1 - matrix_DD.diagonal().square().sum() / energy),
        anisotropy=distance_to_isotropy(matrix_DD, float(mean)),
        condition=float(values_D[0] / values_D[-1]),
    )
    return matrix_DD, described


def distance_to_isotropy(matrix_DD: Tensor, variance: float) -> float:
    """Compute ‖C − v I‖_F / ‖v I‖_F, the relative distance of a covariance from that of independent features.

    Args:
        matrix_DD: covariance C.
        variance: v of each feature; with the target's, 0 is where RDMReg along all eigenvectors of C ends.

    Returns:
        ≥ 0; NaN for C = 0 and v = 0.
    """
    identity_DD = torch.eye(len(matrix_DD), dtype=matrix_DD.dtype, device=matrix_DD.device) * variance
    return float((matrix_DD - identity_DD).norm() / identity_DD.norm())


def marchenko_pastur_edges(variance: float, samples: int, dim: int) -> tuple[float, float]:
    """Compute the range of the eigenvalues of a covariance of N samples of D independent features, for large N and D.

    v (1 ∓ √(D / (N − 1)))², the law of Marchenko and Pastur 1967. For N ≤ D there are zeros besides.

    Args:
        variance: v of each feature.
        samples: number N of samples, at least 2.
        dim: number D of features.

    Returns:
        Lower and upper edge of those eigenvalues that are not zero.
    """
    ratio = (dim / (samples - 1)) ** 0.5
    return variance * (1 - ratio) ** 2, variance * (1 + ratio) ** 2


def mean_absolute_cosine(z_ND: Tensor) -> float:
    """Compute the mean of ``|cos|`` of the angle between two different features, as vectors of their N samples.

    Args:
        z_ND: features; centred ones give the mean absolute correlation.

    Returns:
        In [0, 1], over the pairs of features that are not zero; NaN with fewer than two of these.
    """
    norm_D = z_ND.double().norm(dim=0)
    unit_ND = z_ND.double()[:, norm_D > 0] / norm_D[norm_D > 0]
    cosine_DD = (unit_ND.T @ unit_ND).abs()
    dim = len(cosine_DD)
    if dim < 2:
        return float("nan")
    return float((cosine_DD.sum() - cosine_DD.trace()) / (dim * (dim - 1)))
