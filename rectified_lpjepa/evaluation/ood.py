"""Whether sparsity tells samples of other data, and samples that are classified wrongly, from the others.

Shape suffixes: N samples, F features of one kind, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rectified_lpjepa.evaluation.altered import Alteration, altered_features
from rectified_lpjepa.evaluation.features import Evaluation, Subject
from rectified_lpjepa.evaluation.logistic_probe import LogisticProbe, fit_probes
from rectified_lpjepa.evaluation.other_sets import open_sets
from rectified_lpjepa.functional.detection import detection, neighbor_distances
from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.functional.sparsity import l1_sparsity

_ERRORS = "errors"
_BINS = 60
_TAIL = 0.001  # share of the samples at either end that the outer bins of a histogram take in

_ORIENTATION = {
    "l0": "share of non-zero features; fewer is unusual: each answers to a pattern of the training images",
    "l1": "(|z|_1 / |z|_2)^2 / D, the share of effectively active features; fewer is unusual, as for l0",
    "l1_norm": "|z|_1; shorter is unusual: patterns of the training images are missing, or weak",
    "l2_norm": "|z|_2; shorter is unusual, as for l1_norm",
    "l0_deviation": "|l0 - its mean over train|; more is unusual: under the target l0 is concentrated about its mean",
    "l1_norm_deviation": "| |z|_1 - its mean over train |; more is unusual, as for l0_deviation",
}
_MSP = "largest probability of the linear probe (Hendrycks & Gimpel 2017); lower is unusual"
_KNN = "distance to the {}-th nearest training sample, features of length one (Sun et al. 2022); farther is unusual"


def ood(
    subject: Subject,
    against: list[str] = [],  # noqa: B006 - a list, as configuration files give it; never changed
    generated: list[str] = ["noise", "shuffled"],  # noqa: B006
    k: int = 50,
) -> Evaluation:
    """Measure how well scores tell unusual samples from the test samples of the subject's own data.

    Unusual are samples of other data, and those of the own test samples that a linear probe classifies wrongly. Which
    end of a score is unusual is said beforehand, by the protocol, and not chosen by the result: an AUROC below 1/2 says
    that it is the other end.

    Args:
        subject: what to evaluate.
        against: other data sets, whose test samples are out of distribution.
        generated: out-of-distribution images made on the spot, one for each test image: ``noise``, uniform in [0, 1],
            and ``shuffled``, the test images with their pixels in another order, the same one for all.
        k: the neighbour whose distance is taken.

    Returns:
        For each kind of features, score and set (``errors`` are the own samples that are classified wrongly):
        ``auroc``, ``aupr`` with the unusual samples as the positive ones, and ``fpr95``, see
        :class:`~rectified_lpjepa.functional.detection.Detection`; NaN where no sample, or each one, is classified
        wrongly. Without labels there are no errors and no maximum softmax probability.

    Raises:
        ValueError: two sets have one name, an unknown name under ``generated``, or fewer training samples than ``k``.
    """
    alterations = _alterations(subject.seed)
    if unknown := sorted(set(generated) - alterations.keys()):
        raise ValueError(f"generated has {', '.join(unknown)}. Choose of {', '.join(alterations)}.")
    others = open_sets(subject, against, taken=[*generated, _ERRORS])
    train, test = subject.features("train"), subject.features("test")
    unusual = altered_features(subject, {name: alterations[name] for name in generated}) if generated else {}
    unusual |= {name: subject.features("test", data) for name, data in others.items()}
    probes, how_fitted = fit_probes(train, test, subject.device)

    metrics: dict[str, float] = {}
    histograms: dict[str, Any] = {}
    for kind, bank_NF in train.kinds().items():
        scores = _Scores(bank_NF, k, subject.device)
        probe = probes.get(kind)
        usual = scores.of(test.kinds()[kind], probe)
        pairs = {name: (usual, scores.of(other.kinds()[kind], probe)) for name, other in unusual.items()}
        if probe is not None:
            right = probe.probabilities(test.kinds()[kind]).argmax(dim=1) == test.labels
            metrics[f"{kind}/linear_probe/top1"] = float(right.double().mean())
            pairs[_ERRORS] = _part(usual, right), _part(usual, ~right)
        for name, (usual_scores, unusual_scores) in pairs.items():
            for score, values_N in usual_scores.items():
                found = detection(values_N, unusual_scores[score])._asdict()
                metrics |= {f"{kind}/{score}_vs_{name}/{quantity}": value for quantity, value in found.items()}
        sets = {"test": usual} | {name: scores_ for name, (_, scores_) in pairs.items()}
        histograms[kind] = {score: _histograms({name: sets[name][score] for name in sets}) for score in usual}
    protocol = {
        "in_distribution": f"test split, {len(test)} samples",
        "out_of_distribution": {name: len(features) for name, features in unusual.items()},
        "errors": "test samples that the linear probe on the same features classifies wrongly",
        "scores": _ORIENTATION | {f"knn{k}": _KNN.format(k), "msp": _MSP},
        "linear_probe": how_fitted,
        "orientation": "fixed beforehand as said of each score; not chosen by the result",
        "positive_class": "the unusual samples in auroc and aupr; the usual ones in fpr95",
        "seed": subject.seed,
    }
    return Evaluation("ood", protocol, metrics, {"histograms": histograms})


class _Scores:
    """Scores of samples, the more unusual the higher, by the training features of one kind."""

    def __init__(self, bank_NF: Tensor, k: int, device: torch.device) -> None:
        self._bank_NF = bank_NF.to(device)
        self._k = k
        self._means = {name: values_N.mean() for name, values_N in self._amounts(bank_NF).items()}

    def of(self, features_NF: Tensor, probe: LogisticProbe | None) -> dict[str, Tensor]:
        """Compute all scores, float64 (N,), of features on the CPU."""
        amounts = self._amounts(features_NF)
        scores = {name: -values_N for name, values_N in amounts.items()}
        for name in ("l0", "l1_norm"):
            scores[f"{name}_deviation"] = (amounts[name] - self._means[name]).abs()
        distances_N = neighbor_distances(features_NF.to(self._bank_NF.device), self._bank_NF, self._k)
        scores[f"knn{self._k}"] = distances_N.cpu().double()
        if probe is not None:
            scores["msp"] = -probe.probabilities(features_NF).amax(dim=1)
        return scores

    @staticmethod
    def _amounts(features_NF: Tensor) -> dict[str, Tensor]:
        features_NF = features_NF.double()
        return {
            "l0": (features_NF != 0).double().mean(dim=1),
            "l1": torch.vmap(l1_sparsity)(features_NF),
            "l1_norm": features_NF.norm(p=1, dim=1),
            "l2_norm": features_NF.norm(dim=1),
        }


def _alterations(seed: int) -> dict[str, Alteration]:
    def noise(images: Tensor, places: range) -> Tensor:
        shape = images.shape[1:]
        drawn = [torch.rand(shape, generator=keyed_generator(seed, "uniform noise", place)) for place in places]
        return torch.stack(drawn).to(images.device)

    def shuffled(images: Tensor, _: range) -> Tensor:
        pixels = images.flatten(2)
        order = torch.randperm(pixels.shape[2], generator=keyed_generator(seed, "shuffled pixels"))
        return pixels[..., order.to(images.device)].view_as(images)

    return {"noise": noise, "shuffled": shuffled}


def _part(scores: Mapping[str, Tensor], chosen: Tensor) -> dict[str, Tensor]:
    return {name: values[chosen] for name, values in scores.items()}


def _histograms(scores: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Count the samples of each set in the same bins; what lies beyond the outer edges is in the outer bins."""
    values = {name: scores_N.numpy() for name, scores_N in scores.items()}
    everything = np.concatenate(list(values.values()))
    low, high = np.quantile(everything, [_TAIL, 1 - _TAIL])
    edges = _edges_between_steps(np.unique(everything[(everything >= low) & (everything <= high)]))
    if edges is None:
        edges = np.histogram_bin_edges([low, high], _BINS)
    counts = {name: np.histogram(part.clip(edges[0], edges[-1]), edges)[0].tolist() for name, part in values.items()}
    return {"edges": edges.tolist(), **counts}


def _edges_between_steps(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Give bins of as many steps each to values that are multiples of a step, such as shares of D; None for others.

    Bins that hold now two and now three of these would show teeth that the values do not have.
    """
    if len(values) < 2:
        return None
    step = np.diff(values).min()
    places = (values - values[0]) / step
    if places[-1] > len(values) * _BINS or not np.allclose(places, np.round(places), rtol=0, atol=1e-3):
        return None
    width = np.ceil((places[-1] + 1) / _BINS)
    bins = np.ceil((places[-1] + 1) / width)
    edges: NDArray[np.float64] = values[0] + step * (width * np.arange(bins + 1) - 0.5)
    return edges
