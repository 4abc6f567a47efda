"""Independence of features: normalised HSIC, mutual information, and marginal against joint entropy.

Shape suffixes: N samples, D features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.feature_selection import mutual_info_regression
from torch import Tensor

from rectified_lpjepa.evaluation.features import Evaluation, Subject
from rectified_lpjepa.evaluation.sampling import draw_positions, numbers, shuffle_columns
from rectified_lpjepa.functional.entropy import FEWEST, marginal_entropies
from rectified_lpjepa.functional.independence import (
    gaussian_total_correlation,
    mean_of_pairs,
    median_bandwidth,
    normal_scores,
    normalized_hsic,
)
from rectified_lpjepa.functional.randomness import keyed_generator, keyed_seed

_SHUFFLED_FEATURES = 128
_NEIGHBOURS = 3


def independence(
    subject: Subject,
    hsic_samples: int = 300,
    hsic_features: int = 512,
    mi_samples: int = 1000,
    mi_pairs: int = 100,
) -> Evaluation:
    """Measure how independent the features of the test split are.

    * ``nhsic``: mean over pairs of features of the normalised HSIC, in [0, 1]; ``nhsic_shuffled``: the same with each
      feature's samples in a random order, which is what independence looks like at this number of samples.
    * ``mutual_information``: mean over drawn pairs, in nats; ``mutual_information_shuffled`` as above.
    * ``marginal_entropy``: sum over features of the d(ξ)-dimensional entropy, and ``renyi_dimension``, the sum of the
      active fractions, beside the target's.
    * ``total_correlation``: that of a Gaussian copula, corrected for the number of samples: the part of the dependence
      that correlations of normal scores see, a lower bound. ``joint_entropy``: marginal entropy minus it, hence an
      upper bound.

    A constant feature is independent of all others: its HSIC is 0, and ``constant_features`` counts them.
    ``features_without_density`` have point masses other than zero; their entropy is −∞, and they are left out of the
    marginal entropy. NaN: averages over pairs where there is one feature alone; the mutual information of fewer samples
    than its estimator needs; ``total_correlation`` unless there are more samples than features, or where features
    determine each other; ``joint_entropy`` where that is NaN or a feature has no density.

    Args:
        subject: the model and its data.
        hsic_samples: samples that HSIC is computed from at most; the time grows with their square.
        hsic_features: features among which all pairs are taken, at most; time grows with their square.
        mi_samples: samples that mutual information is estimated from at most.
        mi_pairs: pairs of features that are drawn for it.

    Raises:
        ValueError: a number of samples, features or pairs is too small.
    """
    limits = {"hsic_samples": hsic_samples, "hsic_features": hsic_features, "mi_samples": mi_samples}
    for name, value in (limits | {"mi_pairs": mi_pairs}).items():
        least = 1 if name == "mi_pairs" else 2
        if value < least:
            raise ValueError(f"independence: {name} must be at least {least}, got {value}.")
    test = subject.features("test")
    if len(test) < 2:
        raise ValueError(f"independence: dependence shows in 2 samples or more, and the test split has {len(test)}.")
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    for kind, z_ND in test.kinds().items():
        found, details[kind] = _hsic(z_ND, subject, hsic_samples, hsic_features)
        found |= _mutual_information(z_ND, subject.seed, mi_samples, mi_pairs)
        entropies_D = marginal_entropies(z_ND)
        details[kind]["marginal_entropies"] = numbers(entropies_D)
        found |= _entropies(z_ND, entropies_D, subject.seed)
        if kind == "projector" and subject.law is not None:
            dim = z_ND.shape[1]
            found["renyi_dimension_target"] = dim * float(subject.law.active_fraction)
            found["marginal_entropy_target"] = found["joint_entropy_target"] = dim * float(subject.law.entropy())
        metrics |= {f"{kind}/independence/{name}": value for name, value in found.items()}
    if test.preactivations is not None and subject.rectified:
        correlation = _total_correlation(test.preactivations, subject.seed)
        metrics["preactivations/independence/total_correlation"] = correlation
    protocol = {
        "split": "test",
        "samples": len(test),
        "nhsic": "biased HSIC of Gaussian kernels exp(-(x - x')^2 / (2 s^2)), divided by the norms of both centred "
        "kernel matrices; s of each feature: the median of its distances that are not zero; mean over all pairs of "
        "features",
        "nhsic_samples": min(hsic_samples, len(test)),
        "nhsic_features": hsic_features,
        "nhsic_shuffled": f"of {_SHUFFLED_FEATURES} of these features at most",
        "mutual_information": f"scikit-learn's mutual_info_regression with {_NEIGHBOURS} neighbours, never below 0",
        "mutual_information_samples": min(mi_samples, len(test)),
        "mutual_information_pairs": mi_pairs,
        "marginal_entropy": "H0(Bernoulli(rho)) + rho H1, H1 of the values that are not zero by the spacing estimator "
        f"of Ebrahimi et al.; counted 0 for fewer than {FEWEST} such values; nats, sum over features",
        "total_correlation": "of a Gaussian copula: -ln det(R) / 2, R the correlation of normal scores with ties in "
        "random order, less its bias under the Wishart law; a lower bound in the limit of many samples",
        "joint_entropy": "marginal_entropy - total_correlation, an upper bound in the same sense",
        "seed": subject.seed,
    }
    return Evaluation("independence", protocol, metrics, details)


def _hsic(z_ND: Tensor, subject: Subject, samples: int, features: int) -> tuple[dict[str, float], dict[str, Any]]:
    rows = draw_positions(len(z_ND), samples, seed=subject.seed, purpose="samples for HSIC")
    columns = draw_positions(z_ND.shape[1], features, seed=subject.seed, purpose="features for HSIC")
    x_ND = z_ND[rows][:, columns]
    hsic_DD = normalized_hsic(x_ND.to(subject.device), median_bandwidth(x_ND).to(subject.device)).cpu()
    shuffled_ND = shuffle_columns(x_ND[:, :_SHUFFLED_FEATURES], seed=subject.seed, purpose="shuffle for HSIC")
    shuffled_DD = normalized_hsic(shuffled_ND, median_bandwidth(shuffled_ND))
    first, second = torch.triu_indices(len(hsic_DD), len(hsic_DD), offset=1)
    counts, edges = np.histogram(hsic_DD[first, second], bins=50, range=(0.0, 1.0))
    metrics = {
        "nhsic": mean_of_pairs(hsic_DD),
        "nhsic_shuffled": mean_of_pairs(shuffled_DD),
        "constant_features": float((z_ND == z_ND[:1]).all(0).sum()),
    }
    return metrics, {"nhsic_histogram": {"edges": numbers(torch.from_numpy(edges)), "pairs": counts.tolist()}}


def _mutual_information(z_ND: Tensor, seed: int, samples: int, num_pairs: int) -> dict[str, float]:
    rows = draw_positions(len(z_ND), samples, seed=seed, purpose="samples for mutual information")
    shuffled = keyed_generator(seed, "shuffle for mutual information")
    all_pairs = torch.triu_indices(z_ND.shape[1], z_ND.shape[1], offset=1).T
    drawn = draw_positions(len(all_pairs), num_pairs, seed=seed, purpose="pairs for mutual information")
    found: dict[str, list[float]] = {"mutual_information": [], "mutual_information_shuffled": []}
    if len(rows) > _NEIGHBOURS:
        for first, second in all_pairs[drawn].tolist():
            # In float64, for the noise that breaks ties is too small for less.
            x, y = z_ND[rows, first].double(), z_ND[rows, second].double()
            other = y[torch.randperm(len(y), generator=shuffled)]
            for values, against in zip(found.values(), (y, other), strict=True):
                estimate = mutual_info_regression(
                    x[:, None].numpy(), against.numpy(), n_neighbors=_NEIGHBOURS, random_state=0
                )
                values.append(float(estimate[0]))
    return {name: float(torch.tensor(values, dtype=torch.float64).mean()) for name, values in found.items()}


def _entropies(z_ND: Tensor, entropies_D: Tensor, seed: int) -> dict[str, float]:
    total_correlation = _total_correlation(z_ND, seed)
    has_density_D = entropies_D.isfinite()
    marginal = float(entropies_D[has_density_D].sum())
    return {
        "marginal_entropy": marginal,
        "features_without_density": float((~has_density_D).sum()),
        "renyi_dimension": float((z_ND != 0).double().mean(0).sum()),
        "total_correlation": total_correlation,
        "joint_entropy": marginal - total_correlation if bool(has_density_D.all()) else float("nan"),
    }


def _total_correlation(z_ND: Tensor, seed: int) -> float:
    scores_ND = normal_scores(z_ND, seed=keyed_seed(seed, "order among ties"))
    total_correlation = gaussian_total_correlation(scores_ND)
    return total_correlation if np.isfinite(total_correlation) else float("nan")
