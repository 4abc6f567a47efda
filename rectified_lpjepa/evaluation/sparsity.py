"""Sparsity: how many features are active, in which classes and data sets, and whether in those that are misclassified.

Shape suffixes: N samples, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.evaluation.datasets import has_training_split
from rectified_lpjepa.evaluation.features import Evaluation, FeatureSet, Subject, require_labels
from rectified_lpjepa.evaluation.other_sets import open_sets
from rectified_lpjepa.evaluation.sampling import draw_positions, numbers
from rectified_lpjepa.functional.activity import class_activity, draw_pairs, expected_jaccard_index, jaccard_index
from rectified_lpjepa.functional.independence import mean_of_pairs, median_bandwidth, normalized_hsic
from rectified_lpjepa.functional.intervals import welch_interval
from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.functional.sparsity import l1_sparsity
from rectified_lpjepa.metrics import FeatureStatistics, predicted_statistics

_OWN = "own"  # what the subject's own data are called among others
_RIDGE = 1.0
_HSIC_SAMPLES, _HSIC_FEATURES = 200, 128
_SHOWN_UNITS = 64
_FEWEST_DATA_SETS = 3


def sparsity(
    subject: Subject,
    against: list[str] = [],  # noqa: B006 - a list, as configuration files give it; never changed
    view_samples: int = 1000,
    pairs: int = 5000,
    classifier_samples: int = 20_000,
) -> Evaluation:
    """Measure how sparse features are, all on the test split.

    * ``sparsity``: ℓ0, ℓ1, mean, variance, dead units and all-zero rows, beside what the target predicts; the least and
      the largest ℓ0 of a class; the Jaccard index of the active sets of two views of a sample, of two samples of a
      class, and of two of different classes, each beside its expectation for independent uniform sets of these sizes.
    * ``sparsity_ridge``: a ridge classifier's accuracy, and ℓ0 and ℓ1 of the samples that it gets right and wrong.
    * ``sparsity_on_<data set>``: ℓ0, ℓ1, dead units, normalised HSIC, and ``sparsity_ridge``'s numbers of a classifier
      that was trained on that data set's training split; and ``sparsity_across``: the range of ℓ0 over the data sets,
      and correlations.

    Numbers about classes are left out for data without labels or of one class, and those of a classifier also for data
    without a training split, which nothing else needs; the protocol says why. NaN: the overlap of active sets that are
    all empty; the mean of the samples that are right, or wrong, where there are none, and the difference where there
    are fewer than two; a correlation over fewer than three data sets, or over equal values.

    Args:
        subject: the model and its data.
        against: further data sets, each the path of an ``.npz`` file or image folder or a name of torchvision's.
        view_samples: samples of which the views are compared.
        pairs: pairs of samples that are drawn of one class, and of different classes.
        classifier_samples: training samples that a classifier is trained on at most.

    Raises:
        ValueError: a number of samples or pairs is below one, or two data sets have one name.
    """
    for name, value in (("view_samples", view_samples), ("pairs", pairs), ("classifier_samples", classifier_samples)):
        if value < 1:
            raise ValueError(f"sparsity: {name} must be at least 1, got {value}.")
    others = open_sets(subject, against, taken=[_OWN])
    test = subject.features("test")
    views = subject.views("test", view_samples)
    classifier = _Classifier(subject.seed, classifier_samples)
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    data = {_OWN: subject.data, **others}
    tests = {name: test if name == _OWN else subject.features("test", one) for name, one in data.items()}
    trains, not_classified = _training_sets(subject, data, tests)
    no_classes = _why_no_classes(test)
    num_classes = test.num_classes or 0
    for kind, z_ND in test.kinds().items():
        found: dict[str, Any] = {"activity": numbers((z_ND != 0).double().mean(0))}
        metrics |= _prefixed(f"{kind}/sparsity", _statistics(z_ND))
        if kind == "projector" and subject.law is not None:
            predicted = predicted_statistics(subject.law, z_ND.shape[1], len(z_ND), seed=subject.seed)
            metrics |= {f"{kind}/sparsity/{name}_target": value for name, value in predicted.items()}
        metrics |= _prefixed(f"{kind}/sparsity", _overlap("views", *_stacked_pairs(views, kind)))
        if no_classes is None:
            class_metrics, class_details = _classes(z_ND, test.labels, num_classes, pairs, subject.seed)
            metrics |= _prefixed(f"{kind}/sparsity", class_metrics)
            found |= class_details
        if _OWN in trains:
            ridge_metrics, ridge_details = _right_and_wrong(z_ND, classifier.right(trains[_OWN], test, kind))
            metrics |= _prefixed(f"{kind}/sparsity_ridge", ridge_metrics)
            found |= ridge_details
        details[kind] = found
    if others:
        across_metrics, across_details = _across(tests, trains, classifier, subject.seed)
        metrics |= across_metrics
        for kind, found in across_details.items():
            details[kind]["data_sets"] = found
    protocol = {
        "split": "test",
        "samples": len(test),
        "active": "features that are not zero",
        "l1": "mean of (|z|_1 / |z|_2)^2 / D, an all-zero row counts 0",
        "against": dict(zip(others, against, strict=True)),
        "overlap": "Jaccard index of active sets; pairs without any active feature are left out",
        "overlap_expected": "mean for independent uniform sets of the same sizes",
        "view_samples": len(views[0]),
        "views": len(views),
        "pairs": pairs,
        "classes": no_classes or f"{test.num_classes}",
        "classifier": f"RidgeClassifier(alpha={_RIDGE:g}) on standardised features, trained on the training split",
        "classifier_samples": classifier_samples,
        "not_classified": not_classified,
        "difference": "mean of the correctly minus mean of the wrongly classified; 95 % interval of Welch",
        "nhsic": f"of {_HSIC_SAMPLES} samples and {_HSIC_FEATURES} features at most, as in `independence`",
        "seed": subject.seed,
    }
    return Evaluation("sparsity", protocol, metrics, details)


def _prefixed(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in metrics.items()}


def _statistics(z_ND: Tensor) -> dict[str, float]:
    statistics = FeatureStatistics(z_ND.shape[1])
    statistics.update(z_ND)
    return {name: float(value) for name, value in statistics.compute().items() if name != "samples"}


def _why_no_classes(features: FeatureSet) -> str | None:
    try:
        require_labels(features, "Comparing classes")
    except ValueError as error:
        return f"not compared: {error}"
    return None


def _training_sets(
    subject: Subject, data: Mapping[str, TwoViewDataModule], tests: Mapping[str, FeatureSet]
) -> tuple[dict[str, FeatureSet], dict[str, str]]:
    """Give the training features of the data sets on which a classifier can be trained, and why not of the others."""
    trains: dict[str, FeatureSet] = {}
    reasons: dict[str, str] = {}
    for name, test in tests.items():
        reason = _why_no_classes(test)
        if reason is None and not has_training_split(data[name]):
            reason = "no classifier is trained: the data have no training split"
        if reason is None:
            train = subject.features("train", data[name])
            reason = _why_no_classes(train)
        if reason is None:
            trains[name] = train
        else:
            reasons[name] = reason
    return trains, reasons


def _stacked_pairs(views: list[FeatureSet], kind: str) -> tuple[Tensor, Tensor]:
    """Put each pair of views of a sample side by side."""
    pairs = list(combinations((view.kinds()[kind] for view in views), 2))
    return torch.cat([first for first, _ in pairs]), torch.cat([second for _, second in pairs])


def _overlap(what: str, a_ND: Tensor, b_ND: Tensor) -> dict[str, float]:
    a_N, b_N = ((z_ND != 0).sum(1) for z_ND in (a_ND, b_ND))
    return {
        f"overlap_{what}": float(jaccard_index(a_ND, b_ND).nanmean()),
        f"overlap_{what}_expected": float(expected_jaccard_index(a_N, b_N, a_ND.shape[1]).nanmean()),
    }


def _classes(
    z_ND: Tensor, labels_N: Tensor, num_classes: int, pairs: int, seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Compare the classes' activities, and the overlap of active sets within a class and between two."""
    activity_CD = class_activity(z_ND, labels_N, num_classes)
    class_l0_C = activity_CD.mean(1)
    seen_C = class_l0_C[~class_l0_C.isnan()]
    metrics = {"l0_least_class": float(seen_C.min()), "l0_largest_class": float(seen_C.max())}
    for what, same in (("within_class", True), ("between_classes", False)):
        generator = keyed_generator(seed, f"pairs {what}")
        pairs_P2 = draw_pairs(labels_N, pairs, same_class=same, generator=generator)
        metrics |= _overlap(what, z_ND[pairs_P2[:, 0]], z_ND[pairs_P2[:, 1]])
    spread_D = activity_CD[~class_l0_C.isnan()].std(0, correction=0)
    units = spread_D.argsort(descending=True, stable=True)[:_SHOWN_UNITS]
    return metrics, {
        "class_l0": numbers(class_l0_C),
        "class_activity": {"units": units.tolist(), "activity": numbers(activity_CD[:, units], 3)},
    }


class _Classifier:
    """Trains a ridge classifier on a training split, and says which test samples it gets right."""

    def __init__(self, seed: int, limit: int) -> None:
        self._seed = seed
        self._limit = limit

    def right(self, train: FeatureSet, test: FeatureSet, kind: str) -> Tensor:
        """Return which test samples are classified correctly, bool (N,)."""
        rows = draw_positions(len(train), self._limit, seed=self._seed, purpose="training samples of a classifier")
        # In float64, as features of very different scales leave the normal equations badly conditioned.
        x = train.kinds()[kind][rows].double().numpy()
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=_RIDGE)).fit(x, train.labels[rows].numpy())
        predicted = model.predict(test.kinds()[kind].double().numpy())
        return torch.from_numpy(predicted) == test.labels


def _right_and_wrong(z_ND: Tensor, right_N: Tensor) -> tuple[dict[str, float], dict[str, Any]]:
    """Compare the sparsity of the samples that a classifier gets right with that of the others."""
    metrics = {"top1": float(right_N.double().mean())}
    details: dict[str, Any] = {}
    each = {"l0": (z_ND != 0).double().mean(1), "l1": torch.vmap(l1_sparsity)(z_ND.double())}
    for name, sparsity_N in each.items():
        right, wrong = sparsity_N[right_N], sparsity_N[~right_N]
        metrics |= {f"{name}_correct": float(right.mean()), f"{name}_wrong": float(wrong.mean())}
        difference = welch_interval(right, wrong)
        metrics |= {
            f"{name}_difference": difference.value,
            f"{name}_difference_low95": difference.low,
            f"{name}_difference_high95": difference.high,
        }
        edges = np.linspace(float(sparsity_N.min()), max(float(sparsity_N.max()), float(sparsity_N.min()) + 1e-6), 41)
        details[f"{name}_histogram"] = {
            "edges": numbers(torch.from_numpy(edges), 6),
            "correct": np.histogram(right, edges)[0].tolist(),
            "wrong": np.histogram(wrong, edges)[0].tolist(),
        }
    return metrics, details


def _across(
    tests: Mapping[str, FeatureSet], trains: Mapping[str, FeatureSet], classifier: _Classifier, seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Measure each data set, and correlate sparsity with accuracy and independence over the data sets."""
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    for kind in tests[_OWN].kinds():
        table: dict[str, dict[str, float]] = {}
        found: dict[str, Any] = {}
        for name, test in tests.items():
            z_ND = test.kinds()[kind]
            statistics = _statistics(z_ND)
            table[name] = {key: statistics[key] for key in ("l0", "l1", "dead_units")} | {"nhsic": _nhsic(z_ND, seed)}
            if name in trains:
                table[name] |= _right_and_wrong(z_ND, classifier.right(trains[name], test, kind))[0]
            metrics |= _prefixed(f"{kind}/sparsity_on_{name}", table[name])
            found[name] = {"activity": numbers((z_ND != 0).double().mean(0))}
        for a in ("l0", "l1"):
            for b in ("top1", "nhsic"):
                both = [(row[a], row[b]) for row in table.values() if b in row]
                metrics |= _prefixed(f"{kind}/sparsity_across", _correlations(f"{a}_{b}", np.array(both)))
        l0 = [row["l0"] for row in table.values()]
        metrics[f"{kind}/sparsity_across/l0_range"] = max(l0) - min(l0)
        details[kind] = found
    return metrics, details


def _correlations(name: str, values: np.ndarray) -> dict[str, float]:
    defined = len(values) >= _FEWEST_DATA_SETS and bool((np.ptp(values, axis=0) > 0).all())
    return {
        f"{name}_data_sets": float(len(values)),
        f"{name}_pearson": float(pearsonr(*values.T).statistic) if defined else float("nan"),
        f"{name}_spearman": float(spearmanr(*values.T).statistic) if defined else float("nan"),
    }


def _nhsic(z_ND: Tensor, seed: int) -> float:
    rows = draw_positions(len(z_ND), _HSIC_SAMPLES, seed=seed, purpose="samples for HSIC over data sets")
    columns = draw_positions(z_ND.shape[1], _HSIC_FEATURES, seed=seed, purpose="features for HSIC over data sets")
    x_ND = z_ND[rows][:, columns]
    return mean_of_pairs(normalized_hsic(x_ND, median_bandwidth(x_ND)))
