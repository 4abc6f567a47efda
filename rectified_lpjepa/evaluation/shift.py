"""How accuracy, sparsity and entropy change on shifted copies of the data.

Shape suffixes: N samples, F features of one kind, C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rectified_lpjepa.data.corruptions import CORRUPTIONS, check_corruption, corrupt
from rectified_lpjepa.evaluation.altered import altered_features
from rectified_lpjepa.evaluation.class_matching import check_class_names, match_classes
from rectified_lpjepa.evaluation.features import Evaluation, FeatureSet, Subject
from rectified_lpjepa.evaluation.logistic_probe import LogisticProbe, fit_probes
from rectified_lpjepa.evaluation.other_sets import open_sets
from rectified_lpjepa.functional.entropy import marginal_entropies
from rectified_lpjepa.functional.sparsity import l0_sparsity, l1_sparsity
from rectified_lpjepa.metrics import predicted_statistics

_CLEAN, _CORRUPTED = "clean", "corrupted"


def shift(
    subject: Subject,
    against: list[str] = [],  # noqa: B006 - a list, as configuration files give it; never changed
    corruptions: list[str] = list(CORRUPTIONS),  # noqa: B006
    severities: list[int] = [1, 2, 3, 4, 5],  # noqa: B006
    class_names: dict[str, str] = {},  # noqa: B006
) -> Evaluation:
    """Measure accuracy, sparsity and entropy on shifted test images, beside those on the images as they are.

    The linear probe has learned from clean training features. It chooses among the classes that both data sets have.

    Args:
        subject: what to evaluate.
        against: shifted data sets: folders, whose classes are matched by the names of their folders (ImageNet-R has
            those of ImageNet), or other data with the same labels. Samples of classes that the subject's data lack are
            left out.
        corruptions: made on the spot, see :data:`~rectified_lpjepa.data.corruptions.CORRUPTIONS`.
        severities: of each corruption, 1 (mild) to 5 (strong).
        class_names: for each folder of the shifted sets that has another name than the class has in the subject's data,
            as those of ObjectNet have, the name there. Several folders may be of one class.

    Returns:
        For each kind of features, and for ``clean``, each ``<corruption>_<severity>``, each set, each ``<corruption>``
        (mean over severities) and ``corrupted`` (mean over all): ``top1`` of the probe, ``l0`` (share of non-zero
        features), ``l1`` (mean of (‖z‖₁/‖z‖₂)² / D) and ``entropy``, the sum of the marginal d(ξ)-entropies in nats.
        ``top1_clean`` of a set is the accuracy on the clean samples of the same classes. Without labels there is no
        accuracy.

    Raises:
        ValueError: an unknown corruption or severity; two sets have one name; the classes of a set cannot be matched,
            or none is in common; or ``class_names`` speaks of folders that no set has.
    """
    conditions = {corruption: [_condition(corruption, one) for one in severities] for corruption in corruptions}
    for corruption, severity in itertools.product(corruptions, severities):
        check_corruption(corruption, severity)
    every_condition = list(itertools.chain(*conditions.values()))
    others = open_sets(subject, against, taken=[_CLEAN, _CORRUPTED, *corruptions, *every_condition])
    check_class_names(class_names, others)
    train, test = subject.features("train"), subject.features("test")
    probes, how_fitted = fit_probes(train, test, subject.device)
    classes = torch.arange(train.num_classes or 0)
    matchings = {}
    if probes:
        matchings = {name: match_classes(subject.data, data, name, class_names) for name, data in others.items()}
    metrics = _measure(_CLEAN, test, probes, classes) | _targets(subject, test)
    for corruption in corruptions:
        alterations = {
            _condition(corruption, severity): partial(
                corrupt, corruption=corruption, severity=severity, seed=subject.seed
            )
            for severity in severities
        }
        for condition, shifted in altered_features(subject, alterations).items():
            metrics |= _measure(condition, shifted, probes, classes)
        metrics |= _means(metrics, corruption, conditions[corruption])
    metrics |= _means(metrics, _CORRUPTED, every_condition)

    sets: dict[str, dict[str, Any]] = {}
    for name, data in others.items():
        shifted = subject.features("test", data)
        sets[name] = {"samples": len(shifted)}
        common = classes
        if name in matchings:
            matching = matchings[name]
            shifted, common = matching.relabelled(shifted, name), matching.common
            clean = test.rows(torch.isin(test.labels, common))
            for kind, probe in probes.items():
                metrics[f"{kind}/{name}/top1_clean"] = _accuracy(kind, clean, probe, common)
            sets[name] |= {"classes_in_common": len(common), "unknown_classes": matching.unknown}
        metrics |= _measure(name, shifted, probes, common)
    protocol = {
        "linear_probe": how_fitted,
        "corruptions": {corruption: list(CORRUPTIONS[corruption]) for corruption in corruptions},
        "severities": severities,
        "sets": sets,
        "classes": "the probe chooses among the classes that both data sets have; samples of others are left out",
        "entropy": "sum over features of the marginal d(xi)-entropy, nats; estimated from all samples of a set",
        "reported_on": "test",
        "seed": subject.seed,
    }
    return Evaluation("shift", protocol, metrics)


def _measure(
    condition: str, features: FeatureSet, probes: Mapping[str, LogisticProbe], classes: Tensor
) -> dict[str, float]:
    """Measure what is asked of a set of samples, for each kind of features."""
    metrics: dict[str, float] = {}
    for kind, z_NF in features.kinds().items():
        values = {
            "l0": float(l0_sparsity(z_NF.double())),
            "l1": float(l1_sparsity(z_NF.double())),
            "entropy": float(marginal_entropies(z_NF).sum()),
        }
        if kind in probes:
            values["top1"] = _accuracy(kind, features, probes[kind], classes)
        metrics |= {f"{kind}/{condition}/{quantity}": value for quantity, value in values.items()}
    return metrics


def _accuracy(kind: str, features: FeatureSet, probe: LogisticProbe, classes: Tensor) -> float:
    """Compute the share of samples for which the likeliest of some classes is the right one."""
    guesses = classes[probe.probabilities(features.kinds()[kind])[:, classes].argmax(dim=1)]
    return float((guesses == features.labels).double().mean())


def _means(metrics: Mapping[str, float], name: str, conditions: list[str]) -> dict[str, float]:
    """Average each quantity of each kind over conditions."""
    values: dict[str, list[float]] = {}
    for key, value in metrics.items():
        kind, condition, quantity = key.split("/")
        if condition in conditions:
            values.setdefault(f"{kind}/{name}/{quantity}", []).append(value)
    return {key: sum(several) / len(several) for key, several in values.items()}


def _targets(subject: Subject, test: FeatureSet) -> dict[str, float]:
    """Predict sparsity and entropy of projector features that follow the target."""
    if subject.law is None or test.projector is None:
        return {}
    samples, dim = test.projector.shape
    predicted = predicted_statistics(subject.law, dim, samples)
    values = {"l0": predicted["l0"], "l1": predicted["l1"], "entropy": dim * float(subject.law.entropy())}
    return {f"projector/{_CLEAN}/{quantity}_target": value for quantity, value in values.items()}


def _condition(corruption: str, severity: int) -> str:
    return f"{corruption}_{severity}"
