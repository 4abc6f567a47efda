"""Transfer: what the features are worth on data that the model was not trained on."""

from __future__ import annotations

from typing import Any

from rectified_lpjepa.evaluation.datasets import data_name
from rectified_lpjepa.evaluation.features import Evaluation, Subject
from rectified_lpjepa.evaluation.few_shot import CLASSIFIER, INTERVAL, Shots, few_shot_accuracies, shot_metrics
from rectified_lpjepa.functional.sparsity import l0_sparsity


def transfer(
    subject: Subject,
    to: list[str],
    shots: list[Shots] = [1, 10, "all"],  # noqa: B006 - never changed
    draws: int = 5,
) -> Evaluation:
    """Train logistic regression on some samples of each class of other data sets, several times, and test it.

    Args:
        subject: what to evaluate.
        to: the data sets: ``.npz`` files, image folders, or names of digits, cifar10, cifar100, dtd, flowers102,
            food101, pets.
        shots: samples of each class, or ``all``.
        draws: how often the samples are drawn.

    Returns:
        Mean share of test samples that are classified rightly and half the width of its 95 % t interval over the draws
        (``top1_ci95``), and the share of non-zero projector features on the test samples (``l0``), for each data set;
        in the details one table of them.

    Raises:
        ValueError: no data set is named, or two have the same name, or a class of one has fewer training samples than
            shots.
    """
    opened = {name: subject.open(name) for name in to}
    names = {name: data_name(data) for name, data in opened.items()}
    if not to or len(set(names.values())) < len(to):
        raise ValueError(f"to is {to}. Name one data set or more, and no name twice (a file's is that of the file).")
    metrics: dict[str, float] = {}
    table: list[dict[str, Any]] = []
    for name, data in opened.items():
        short = names[name]
        train, test = subject.features("train", data), subject.features("test", data)
        activity = None if test.projector is None else float(l0_sparsity(test.projector))
        results = few_shot_accuracies(train, test, shots, draws, subject.seed, subject.device, short)
        for (kind, count), accuracy in results.items():
            metrics |= shot_metrics(f"{kind}/transfer_{short}_{count}shot", accuracy)
            table.append(
                {
                    "data": short,
                    "features": kind,
                    "shots": count,
                    "top1": accuracy.mean,
                    "top1_ci95": accuracy.half_width,
                    "l0": activity if kind == "projector" else None,
                }
            )
        if activity is not None:
            metrics[f"projector/transfer_{short}/l0"] = activity
    protocol = {
        "to": list(names.values()),
        "shots": shots,
        "draws": draws,
        "classifier": CLASSIFIER,
        "interval": INTERVAL,
        "reported_on": "test",
    }
    return Evaluation("transfer", protocol, metrics, {"table": table})
