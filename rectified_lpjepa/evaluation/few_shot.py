"""Few-shot classification: what a linear classifier learns from one or ten samples of each class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from rectified_lpjepa.evaluation.features import Evaluation, FeatureSet, Subject, require_labels
from rectified_lpjepa.evaluation.scaling import Standardizer
from rectified_lpjepa.functional.logistic_regression import fit_logistic_regression
from rectified_lpjepa.functional.randomness import keyed_generator

Shots = int | Literal["all"]

CLASSIFIER = (
    "logistic regression, sum of cross-entropies + penalty / 2 · ‖W‖², penalty 1, L-BFGS, on features standardised by "
    "mean and standard deviation of all training samples"
)
INTERVAL = "95 % Student t interval of the mean over draws, half its width"


@dataclass(frozen=True)
class ShotAccuracy:
    """What classifiers that saw some samples of each class reach.

    Attributes:
        top1: share of test samples that are classified rightly, of each draw.
    """

    top1: list[float]

    @property
    def mean(self) -> float:
        """Mean over the draws."""
        return float(np.mean(self.top1))

    @property
    def half_width(self) -> float | None:
        """Half of the width of the 95 % t interval of the mean; None for a single draw."""
        if len(self.top1) < 2:
            return None
        quantile = scipy.stats.t.ppf(0.975, len(self.top1) - 1)
        return float(quantile * np.std(self.top1, ddof=1) / math.sqrt(len(self.top1)))


def few_shot(subject: Subject, shots: list[Shots] = [1, 10, "all"], draws: int = 5) -> Evaluation:  # noqa: B006
    """Train logistic regression on some samples of each class, several times, and test it.

    Each draw takes its samples at random from the training samples, the same for all features; ``all`` takes all of
    them, once.

    Args:
        subject: what to evaluate.
        shots: samples of each class, or ``all``.
        draws: how often the samples are drawn.

    Returns:
        Mean share of test samples that are classified rightly, and half the width of its 95 % t interval over the draws
        (``top1_ci95``), which ``all`` does not have.

    Raises:
        ValueError: a class has fewer training samples than shots, there are no labels, or fewer than two draws.
    """
    train, test = subject.features("train"), subject.features("test")
    results = few_shot_accuracies(train, test, shots, draws, subject.seed, subject.device, "these data")
    metrics: dict[str, float] = {}
    for (name, count), accuracy in results.items():
        metrics |= shot_metrics(f"{name}/{count}shot", accuracy)
    protocol = {"shots": shots, "draws": draws, "classifier": CLASSIFIER, "interval": INTERVAL, "reported_on": "test"}
    details = {f"{name}/{count}shot": accuracy.top1 for (name, count), accuracy in results.items()}
    return Evaluation("few-shot", protocol, metrics, details)


def shot_metrics(name: str, accuracy: ShotAccuracy) -> dict[str, float]:
    """Name the mean and, where there is one, the interval."""
    half_width = accuracy.half_width
    interval = {} if half_width is None else {f"{name}/top1_ci95": half_width}
    return {f"{name}/top1": accuracy.mean} | interval


def few_shot_accuracies(
    train: FeatureSet,
    test: FeatureSet,
    shots: list[Shots],
    draws: int,
    seed: int,
    device: torch.device,
    what: str,
) -> dict[tuple[str, Shots], ShotAccuracy]:
    """Train and test the classifiers of all features, numbers of shots and draws.

    Args:
        train: training samples.
        test: test samples.
        shots: samples of each class, or ``all``.
        draws: how often the samples are drawn.
        seed: of the draws.
        device: where to compute.
        what: name of the data, for messages.

    Returns:
        Accuracies by the name of the features and the number of shots.

    Raises:
        ValueError: see :func:`few_shot`.
    """
    classes = require_labels(train, f"few-shot classification on {what}")
    require_labels(test, f"few-shot classification on {what}")
    _check(train.labels, shots, draws, what)
    found: dict[tuple[str, Shots], ShotAccuracy] = {}
    for name, features in train.kinds().items():
        scale = Standardizer.of(features.to(device))
        x, test_x = scale(features), scale(test.kinds()[name])
        labels, test_labels = train.labels.to(device), test.labels.to(device)
        for count in shots:
            accuracies = []
            numbers = range(1 if count == "all" else draws)
            for draw in tqdm(numbers, desc=f"{what}: {name}, {count} shot", leave=False, disable=None):
                rows = draw_shots(train.labels, count, seed, draw).to(device)
                weight, bias = fit_logistic_regression(x[rows], labels[rows], classes)
                guesses = F.linear(test_x, weight, bias).argmax(dim=1)
                accuracies.append(float((guesses == test_labels).double().mean()))
            found[name, count] = ShotAccuracy(accuracies)
    return found


def draw_shots(labels: Tensor, shots: Shots, seed: int, draw: int) -> Tensor:
    """Draw samples of each class: positions, int64.

    Args:
        labels: int64 (N,).
        shots: samples of each class, or ``all``.
        seed: of the draws.
        draw: number of the draw.
    """
    if shots == "all":
        return torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=keyed_generator(seed, "shots", draw))
    return torch.cat([order[labels[order] == label][:shots] for label in labels.unique()])


def _check(labels: Tensor, shots: list[Shots], draws: int, what: str) -> None:
    numbers = [count for count in shots if count != "all"]
    if not shots or (numbers and min(numbers) < 1):
        raise ValueError(f"shots is {shots}. Give numbers of at least 1, or 'all'.")
    if draws < 2:
        raise ValueError(f"draws is {draws}. An interval needs two draws or more.")
    present, counts = labels.unique(return_counts=True)
    fewest = int(counts.min())
    if numbers and fewest < max(numbers):
        label = int(present[counts.argmin()])
        raise ValueError(
            f"{max(numbers)} shots were asked for, and class {label} of {what} has {fewest} training sample(s). HINT: "
            f"at most `--shots [{fewest}]`."
        )
