"""Transfer: what the features are worth on data that the model was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rectified_lpjepa.commands import aligned
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


def transfer_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out what transfer found: a line for each data set and kind of features, a column for each number of shots.

    Args:
        rows: the ``table`` of the details of :func:`transfer`.
    """
    shots = list(dict.fromkeys(row["shots"] for row in rows))
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        half = "" if row["top1_ci95"] is None else f" ± {100 * row['top1_ci95']:.1f}"
        line = lines.setdefault((row["data"], row["features"]), [])
        line.append(f"{100 * row['top1']:.1f}{half}")
        if row["shots"] == shots[-1]:
            line.append("" if row["l0"] is None else f"{row['l0']:.3f}")
    heads = [f"{count} of a class" for count in shots]
    table = [["top-1 in %", "features", *heads, "ℓ0"], *([*name, *line] for name, line in lines.items())]
    is_drawn = any(row["top1_ci95"] is not None for row in rows)
    return aligned(table, left=2) + ("\nmean ± 95 % interval over draws" if is_drawn else "")
