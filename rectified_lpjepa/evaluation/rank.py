"""Rank, covariance and non-negative factors of features.

Shape suffixes: N samples, D features.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.evaluation.features import Evaluation, Subject
from rectified_lpjepa.evaluation.sampling import draw_positions, numbers, shuffle_columns
from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.functional.rank import (
    covariance,
    distance_to_isotropy,
    effective_rank,
    marchenko_pastur_edges,
    mean_absolute_cosine,
    rankme,
    singular_values,
)

_EPSILON = 1e-7
_NMF_ITERATIONS = 200
_NMF_TOLERANCE = 1e-3


def rank(
    subject: Subject,
    samples: int = 10_000,
    nmf_ranks: list[int] = [8, 32],  # noqa: B006 - a list, as configuration files give it; never changed
    nmf_samples: int = 1000,
) -> Evaluation:
    """Measure the rank of the test features, their covariance, and how well few non-negative factors make them.

    * ``rank``: RankMe and the effective rank of the features, and the latter as a share of min(N, D), beyond which no
      rank goes; the effective rank of their covariance.
    * ``covariance``: mean, largest and smallest eigenvalue; the condition number; the share of the energy that is off
      the diagonal; the relative Frobenius distance from the nearest multiple of the identity, and from Var · I with the
      target's variance, where RDMReg along all eigenvectors ends; the share of the eigenvalues outside the range of
      Marchenko and Pastur for the target's variance (or the mean eigenvalue, for a model without a target).
    * ``orthogonality``: mean of ``|cos|`` between features as vectors of samples, and that of centred ones.
    * ``nmf<rank>``: relative Frobenius error of scikit-learn's non-negative matrix factorisation of the projector
      features (of the encoder's, without a projector); beside it that of the same features each with its samples in a
      random order, and the least error of any factors, by the singular values. Negative features are set to zero first.

    The ``_target`` of a number is that of N samples of the target itself: what sampling alone gives.

    NaN: the condition number where an eigenvalue is zero, as always for N ≤ D; shares of features that are constant;
    ``|cos|`` with fewer than two features that are not zero; factorisation of features that are all zero.

    Args:
        subject: the model and its data.
        samples: samples behind all but the factorisation at most.
        nmf_ranks: numbers of factors; those of min(N, D) or more are left out.
        nmf_samples: samples that are factorised at most.

    Raises:
        ValueError: there are fewer than two samples, or a rank or number of samples is too small.
    """
    if min(samples, nmf_samples) < 2 or min(nmf_ranks, default=1) < 1:
        raise ValueError(
            "rank: samples and nmf_samples must be at least 2 and every rank at least 1, got "
            f"samples={samples}, nmf_samples={nmf_samples}, nmf_ranks={nmf_ranks}."
        )
    test = subject.features("test")
    if len(test) < 2:
        raise ValueError(f"rank: a covariance needs at least 2 samples, and the test split has {len(test)}.")
    rows = draw_positions(len(test), samples, seed=subject.seed, purpose="samples for a rank")
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    for kind, z_ND in test.kinds().items():
        law = subject.law if kind == "projector" else None
        found, details[kind] = _spectrum(z_ND[rows], law)
        metrics |= {f"{kind}/{name}": value for name, value in found.items()}
        if law is not None:
            generator = keyed_generator(subject.seed, "target of a rank")
            predicted, predicted_details = _spectrum(law.sample(z_ND[rows].shape, generator=generator), law)
            metrics |= {f"{kind}/{name}_target": value for name, value in predicted.items()}
            details[kind]["eigenvalues_target"] = predicted_details["eigenvalues"]
    kind, z_ND = list(test.kinds().items())[-1]
    x_ND = z_ND[draw_positions(len(test), nmf_samples, seed=subject.seed, purpose="samples for a factorisation")]
    factorised = [r for r in nmf_ranks if r < min(x_ND.shape)]
    metrics |= {f"{kind}/{name}": value for name, value in _factorisations(x_ND, factorised, subject.seed).items()}
    protocol = {
        "split": "test",
        "samples": len(rows),
        "rankme": f"Garrido et al. 2023, epsilon {_EPSILON:g}, of the features as they are",
        "effective_rank": "Roy & Vetterli 2007",
        "covariance": "unbiased, float64",
        "target": "none" if subject.law is None else f"one draw of as many samples of {subject.law!r}",
        "nmf": f"scikit-learn, Frobenius norm, nndsvda start, coordinate descent, at most {_NMF_ITERATIONS} steps, "
        f"tolerance {_NMF_TOLERANCE:g}; of max(0, features)",
        "nmf_negative_share": float((x_ND < 0).double().mean()),
        "nmf_ranks": factorised,
        "nmf_samples": len(x_ND),
        "seed": subject.seed,
    }
    return Evaluation("rank", protocol, metrics, details)


def _spectrum(z_ND: Tensor, law: Law | None) -> tuple[dict[str, float], dict[str, Any]]:
    """Measure rank, covariance and orthogonality."""
    samples, dim = z_ND.shape
    singular = singular_values(z_ND)
    matrix_DD, described = covariance(z_ND)
    values_D = described.eigenvalues
    mean = float(values_D.mean())
    low, high = marchenko_pastur_edges(mean if law is None else float(law.variance), samples, dim)
    # All but those that are zero for lack of samples.
    possible = values_D[: min(samples - 1, dim)]
    metrics = {
        "rank/rankme": rankme(singular, _EPSILON),
        "rank/effective_rank": effective_rank(singular),
        "rank/effective_rank_share": effective_rank(singular) / min(samples, dim),
        "rank/effective_rank_covariance": effective_rank(values_D),
        "covariance/mean_eigenvalue": mean,
        "covariance/largest_eigenvalue": float(values_D[0]),
        "covariance/smallest_eigenvalue": float(values_D[-1]),
        "covariance/condition": described.condition if math.isfinite(described.condition) else float("nan"),
        "covariance/off_diagonal_energy": described.off_diagonal_energy,
        "covariance/distance_to_isotropy": described.anisotropy,
        "covariance/outside_marchenko_pastur": float(((possible < low) | (possible > high)).double().mean()),
        "orthogonality/mean_abs_cos": mean_absolute_cosine(z_ND),
        "orthogonality/mean_abs_correlation": mean_absolute_cosine(z_ND.double() - z_ND.double().mean(0)),
        "orthogonality/constant_features": float((z_ND == z_ND[:1]).all(0).sum()),
    }
    if law is not None:
        metrics["covariance/distance_to_var_identity"] = distance_to_isotropy(matrix_DD, float(law.variance))
    details = {
        "eigenvalues": numbers(values_D),
        "singular_values": numbers(singular),
        "marchenko_pastur": [low, high],
    }
    return metrics, details


def _factorisations(x_ND: Tensor, ranks: list[int], seed: int) -> dict[str, float]:
    """Factorise features and a shuffled copy into few non-negative factors."""
    x_ND = x_ND.relu()
    shuffled_ND = shuffle_columns(x_ND, seed=seed, purpose="shuffle for a factorisation")
    energies = singular_values(x_ND).square()
    metrics = {}
    for r in ranks:
        metrics[f"nmf{r}/relative_error"] = _nmf_error(x_ND, r)
        metrics[f"nmf{r}/relative_error_shuffled"] = _nmf_error(shuffled_ND, r)
        metrics[f"nmf{r}/relative_error_svd"] = float((energies[r:].sum() / energies.sum()).sqrt())
    return metrics


def _nmf_error(x_ND: Tensor, factors: int) -> float:
    norm = float(x_ND.norm())
    if norm == 0:
        return float("nan")
    model = NMF(factors, init="nndsvda", max_iter=_NMF_ITERATIONS, tol=_NMF_TOLERANCE, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x_ND.numpy())
    return float(model.reconstruction_err_) / norm
