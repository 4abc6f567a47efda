"""Every metric that an experiment's file names is one that a run logs or an evaluation of one of its profiles finds.

The names come from a tiny run, and from the evaluations themselves on small data with the options of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import PixelSubject
from tiny_jepa import digits, quiet_trainer, tiny_model
from torch import Tensor

from rectified_lpjepa.callbacks import RunCost, RunSummary
from rectified_lpjepa.data import TwoViewDataModule
from rectified_lpjepa.data.batches import Split
from rectified_lpjepa.distributions import RectifiedGeneralizedGaussian
from rectified_lpjepa.evaluation.datasets import NAMES, DataSource
from rectified_lpjepa.evaluation.features import FeatureSet
from rectified_lpjepa.evaluation.registry import EVALUATIONS
from rectified_lpjepa.experiment.datasets import make_datasets
from rectified_lpjepa.experiment.file import Experiment, Profile, listed, read_experiment
from rectified_lpjepa.experiment.study import LEARNT

FILES = listed(Path(__file__).parents[2] / "experiments")
SAMPLES, DIM = 300, 16
QUICK: dict[str, dict[str, Any]] = {  # options that make an evaluation cheap, and on which no name depends
    "linear": {"lrs": [0.1], "weight_decays": [0.0], "epochs": 1, "min_steps": 2},
    "few-shot": {"draws": 2},
    "transfer": {"draws": 2},
    "sparsity": {"view_samples": 20, "pairs": 20},
    "independence": {"hsic_samples": 30, "hsic_features": 4, "mi_samples": 50, "mi_pairs": 2},
    "distribution": {
        "fit_samples": 60,
        "null_draws": 2,
        "samples": 60,
        "largest_samples": 60,
        "directions": 4,
        "floor_draws": 2,
        "starts": 1,
        "steps": 1,
    },
    "rank": {"nmf_samples": 60},
    "shift": {"severities": [1], "corruptions": ["contrast"]},
}


class Pixels(PixelSubject):
    """The first digits; the features are a few mixtures of their pixels, and every other data set has the same.

    Args:
        folder: for data sets that are made.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(law=RectifiedGeneralizedGaussian(2.0, 0.0, 1.0))
        self.folder = folder

    def batches(self, split: Split, data: TwoViewDataModule | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        yield from ((images[:SAMPLES], labels[:SAMPLES]) for images, labels in super().batches(split, data))

    def embed(self, images: Tensor) -> FeatureSet:
        pixels = images.flatten(1)
        mixing = torch.randn(pixels.shape[1], DIM, generator=torch.Generator().manual_seed(0))
        return super().embed(pixels @ mixing / 8)

    def features(self, split: Split, data: TwoViewDataModule | None = None) -> FeatureSet:
        return super().features(split)

    def views(self, split: Split, samples: int, draw: int = 0) -> list[FeatureSet]:
        return [self.features(split).rows(torch.arange(samples))] * 2

    def open(self, name: str) -> TwoViewDataModule:
        if "/" in name:  # a folder of one's own, in its place
            name = "digits"
        path = name if name in NAMES else make_datasets([name], self.folder)[name]
        return DataSource().open(path, image_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What an experiment reads of a run."""
    path = tmp_path_factory.mktemp("run")
    trainer = quiet_trainer(path, [RunSummary(), RunCost()], limit_val_batches=1)
    trainer.fit(tiny_model(), digits())
    result = json.loads((path / "result.json").read_text())
    learnt = (f"epochs_mean/{name}" for name in LEARNT if name in result["metrics"])
    return {*result["metrics"], *(f"cost/{name}" for name in result["cost"]), *learnt}


@cache
def found(name: str, options: str, folder: Path) -> set[str]:
    given = json.loads(options) | QUICK.get(name, {})
    return {f"{name}/{metric}" for metric in EVALUATIONS[name](Pixels(folder), **given).metrics}


def known(profile: Profile, folder: Path) -> set[str]:
    return set().union(*(found(name, json.dumps(options), folder) for name, options in profile.evaluations.items()))


def named(experiment: Experiment) -> Iterator[tuple[set[str], list[str]]]:
    """Give metrics that are to be there together, and the profiles of one of which they are to be."""
    varied = {name for profile in experiment.profiles for name in experiment.varied(profile)}
    for column in experiment.columns:
        yield {column.metric}, []
    for figure in experiment.figures:
        for metric in (figure.metric, *(figure.metrics or []), figure.x):
            if metric is not None and metric not in varied:
                yield {metric}, []
    for condition in experiment.conditions:
        yield {condition.metric} | ({condition.of} if condition.of else set()), condition.profiles
    for row in experiment.published:
        for metric in row.metrics:
            yield {metric}, row.profiles


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_metric_that_a_file_names_is_measured(file: Path, logged: set[str], folder: Path) -> None:
    experiment = read_experiment(file)
    measured = {name: logged | known(profile, folder) for name, profile in experiment.profiles.items()}
    missing = [
        metrics
        for metrics, profiles in named(experiment)
        if not any(metrics <= measured[name] for name in profiles or measured)
    ]
    assert missing == []
