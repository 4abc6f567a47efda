"""The linear probe: how well a linear classifier reads labels off frozen features.

Shape suffixes: N samples, F features, G classifiers of the grid.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from rectified_lpjepa.evaluation.features import Evaluation, FeatureSet, Subject, require_labels
from rectified_lpjepa.evaluation.heads import LinearHeads
from rectified_lpjepa.evaluation.mlp import train_mlp
from rectified_lpjepa.evaluation.scaling import Standardizer
from rectified_lpjepa.functional.randomness import keyed_generator, keyed_seed
from rectified_lpjepa.probe import LinearProbe


@dataclass(frozen=True)
class _Training:
    """How the classifiers are trained."""

    grid: list[tuple[float, float]]
    epochs: int
    min_steps: int
    batch_size: int
    seed: int

    def batches(self, samples: int, epochs: range) -> list[Tensor]:
        """Give the rows of each step: every epoch another permutation, cut into equal parts."""
        parts = max(1, math.ceil(samples / self.batch_size))
        return [
            rows
            for epoch in epochs
            for rows in torch.randperm(samples, generator=keyed_generator(self.seed, "probe", epoch)).tensor_split(
                parts
            )
        ]

    def all_batches(self, samples: int) -> list[Tensor]:
        """Give the rows of all steps of a training on cached features."""
        enough = math.ceil(self.min_steps / math.ceil(samples / self.batch_size))
        return self.batches(samples, range(max(self.epochs, enough)))

    def heads(
        self, grid: list[tuple[float, float]], features: int, classes: int, steps: int, on: Tensor
    ) -> LinearHeads:
        """Make untrained classifiers."""
        return LinearHeads(features, classes, [lr for lr, _ in grid], [decay for _, decay in grid], steps, on.device)


def linear(
    subject: Subject,
    lrs: list[float] = [0.01, 0.03, 0.1, 0.3],  # noqa: B006 - never changed
    weight_decays: list[float] = [0.0, 1e-3, 1e-2],  # noqa: B006
    epochs: int = 10,
    min_steps: int = 400,
    batch_size: int = 256,
    holdout: float = 0.1,
    augmented: bool = False,
    mlp: bool = False,
) -> Evaluation:
    """Train linear classifiers on the features, choose one on held-out training samples, and test it.

    The features are standardised by mean and standard deviation of the training samples. All pairs of learning rate and
    weight decay are trained in one pass, without a stratified part of the training samples, on which the best of them
    is chosen by its accuracy, then by its loss. Trained anew on all training samples, it is measured on the test
    samples, which decide nothing.

    Args:
        subject: what to evaluate.
        lrs: peak learning rates of SGD (Nesterov momentum .9, cosine schedule to 0).
        weight_decays: weight decays of the weights.
        epochs: passes over the training samples.
        min_steps: steps at least, so that small data are passed over more often.
        batch_size: samples of a step.
        holdout: share of the training samples of each class that are held out for the choice.
        augmented: train on fresh augmented views of the images in each epoch, too, and choose and measure on images
            without augmentation. Each epoch is then a pass of the network over the images, and ``min_steps`` is of no
            effect.
        mlp: train a three-layer MLP on the features, too (AdamW, nothing chosen).

    Returns:
        Shares of test samples whose class is the first guess, and among the first five; in the details the grid.

    Raises:
        ValueError: there are no labels, too few samples to hold some out, or a number is out of its range.
    """
    _check(lrs, weight_decays, epochs, batch_size, holdout)
    train, test = subject.features("train"), subject.features("test")
    require_labels(train, "linear")
    require_labels(test, "linear")
    grid = list(itertools.product(lrs, weight_decays))
    training = _Training(grid, epochs, min_steps, batch_size, subject.seed)
    held = stratified(train.labels, holdout, subject.seed)
    metrics: dict[str, float] = {}
    chosen: dict[str, Any] = {}
    details: dict[str, Any] = {}

    def note(name: str, choice: _Choice) -> None:
        metrics.update({f"{name}/{key}": value for key, value in choice.measured.items()})
        chosen[name] = {"lr": grid[choice.best][0], "weight_decay": grid[choice.best][1]}
        details[name] = [
            {"lr": lr, "weight_decay": decay}
            | {f"holdout_{key}": float(value[g]) for key, value in choice.held.items()}
            for g, (lr, decay) in enumerate(grid)
        ]

    for name in train.kinds():
        note(f"{name}/linear", _on_features(subject, name, training, held))
    if augmented:
        for name, choice in _on_views(subject, training, held).items():
            note(f"{name}/linear_augmented", choice)
    if mlp:
        for name in train.kinds():
            metrics |= {f"{name}/mlp/{key}": value for key, value in _mlp(subject, name, training).items()}
    protocol = {
        "features": "standardised by the training samples",
        "optimiser": "SGD, Nesterov momentum 0.9, cosine to 0, no decay of biases, start at zero",
        "epochs": epochs,
        "min_steps": min_steps,
        "batch_size": batch_size,
        "grid": {"lr": lrs, "weight_decay": weight_decays},
        "chosen_on": f"{int(held.sum())} held-out training samples, stratified; then trained on all {len(train)}",
        "chosen": chosen,
        "reported_on": "test",
    }
    if mlp:
        protocol["mlp"] = "3 layers, hidden min(1.5 F, 8192), BN, ReLU; AdamW, lr 1e-3, weight decay 1e-4, cosine to 0"
    return Evaluation("linear", protocol, metrics, details)


@dataclass(frozen=True)
class _Choice:
    """Which pair of the grid it is, how each of them did on held-out samples, and this one on the test samples."""

    best: int
    held: dict[str, Tensor]
    measured: dict[str, float]


def _of(head: int, measured: dict[str, Tensor]) -> dict[str, float]:
    return {key: float(value[head]) for key, value in measured.items()}


def _best(held: dict[str, Tensor]) -> int:
    return max(range(len(held["top1"])), key=lambda g: (float(held["top1"][g]), -float(held["loss"][g])))


def _on_features(subject: Subject, name: str, training: _Training, held: Tensor) -> _Choice:
    x, labels, test_x, test_labels, classes = _tensors(subject, name)
    held = held.to(x.device)

    def trained(grid: list[tuple[float, float]], x: Tensor, labels: Tensor, what: str) -> LinearHeads:
        batches = training.all_batches(len(labels))
        heads = training.heads(grid, x.shape[1], classes, len(batches), x)
        for rows in tqdm(batches, desc=f"{name}, {what}", leave=False, disable=None):
            rows = rows.to(x.device)
            heads.step(x[rows], labels[rows])
        return heads

    found = trained(training.grid, x[~held], labels[~held], "grid").measure(x[held], labels[held])
    best = _best(found)
    final = trained([training.grid[best]], x, labels, "on all")
    return _Choice(best, found, _of(0, final.measure(test_x, test_labels)))


def _on_views(subject: Subject, training: _Training, held: Tensor) -> dict[str, _Choice]:
    """Train with and without the held-out samples at once, because the views cost more than the classifiers."""
    train = subject.features("train")
    scales = {name: Standardizer.of(features.to(subject.device)) for name, features in train.kinds().items()}
    pairs: dict[str, tuple[LinearHeads, LinearHeads]] = {}
    for epoch in tqdm(range(training.epochs), desc="views", leave=False, disable=None):
        views = subject.views("train", len(train), draw=epoch)
        kept = [view.rows(~held) for view in views]
        for name in train.kinds():
            if name not in pairs:
                without, complete = (_heads_for(training, sets, name, scales[name]) for sets in (kept, views))
                pairs[name] = without, complete
            for heads, sets in zip(pairs[name], (kept, views), strict=True):
                x = scales[name](torch.cat([view.kinds()[name] for view in sets]))
                labels = torch.cat([view.labels for view in sets]).to(x.device)
                for rows in training.batches(len(labels), range(epoch, epoch + 1)):
                    rows = rows.to(x.device)
                    heads.step(x[rows], labels[rows])
    choices = {}
    for name, (without, complete) in pairs.items():
        x, labels, test_x, test_labels, _ = _tensors(subject, name)
        held_out = held.to(x.device)
        found = without.measure(x[held_out], labels[held_out])
        best = _best(found)
        choices[name] = _Choice(best, found, _of(best, complete.measure(test_x, test_labels)))
    return choices


def _heads_for(training: _Training, sets: list[FeatureSet], name: str, scale: Standardizer) -> LinearHeads:
    samples = sum(map(len, sets))
    steps = len(training.batches(samples, range(training.epochs)))
    classes = require_labels(sets[0], "linear")
    return training.heads(training.grid, sets[0].kinds()[name].shape[1], classes, steps, scale.mean)


def _mlp(subject: Subject, name: str, training: _Training) -> dict[str, float]:
    x, labels, test_x, test_labels, classes = _tensors(subject, name)
    batches = [rows.to(x.device) for rows in training.all_batches(len(labels))]
    network = train_mlp(x, labels, classes, batches, seed=keyed_seed(subject.seed, "mlp"))
    with torch.inference_mode():
        logits = torch.cat([network(part) for part in test_x.split(training.batch_size)])
    return {key: float(value) for key, value in LinearProbe.accuracies(logits, test_labels).items()}


def _tensors(subject: Subject, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Return standardised training features and labels, those of the test samples, and the number of classes."""
    train, test = subject.features("train"), subject.features("test")
    scale = Standardizer.of(train.kinds()[name].to(subject.device))
    x, test_x = scale(train.kinds()[name]), scale(test.kinds()[name])
    return x, train.labels.to(x.device), test_x, test.labels.to(x.device), require_labels(train, "linear")


def stratified(labels: Tensor, share: float, seed: int) -> Tensor:
    """Mark a share of the samples of each class, at least one of each class that has two.

    Args:
        labels: int64 (N,).
        share: between 0 and 1.
        seed: of the choice.

    Returns:
        bool (N,).

    Raises:
        ValueError: no class has two samples.
    """
    marked = torch.zeros(len(labels), dtype=torch.bool)
    order = torch.randperm(len(labels), generator=keyed_generator(seed, "held out"))
    for label in labels.unique():
        members = order[labels[order] == label]
        count = min(max(1, round(share * len(members))), len(members) - 1)
        marked[members[:count]] = True
    if not marked.any():
        raise ValueError(
            f"Each of the {len(labels)} training samples is the only one of its class, so that none can be held out to "
            "choose by. HINT: give more samples."
        )
    return marked


def _check(lrs: list[float], weight_decays: list[float], epochs: int, batch_size: int, holdout: float) -> None:
    if not lrs or min(lrs) <= 0 or not weight_decays or min(weight_decays) < 0:
        raise ValueError(f"The grid is {lrs} × {weight_decays}. Learning rates are positive, weight decays at least 0.")
    if epochs < 1 or batch_size < 2 or not 0 < holdout < 1:
        raise ValueError(
            f"epochs is {epochs}, batch_size {batch_size}, holdout {holdout}. They must be at least 1, at least 2, and "
            "between 0 and 1."
        )
