"""The model on two processes: training, validation and prediction equal one process's with the same global batches."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from processes import run_processes
from sklearn.datasets import load_digits
from tiny_jepa import DIM, quiet_trainer, tiny_model
from torch import nn

from rectified_lpjepa.callbacks import FeatureWriter
from rectified_lpjepa.data import NpzDataModule
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.networks import Backbone
from rectified_lpjepa.objectives import Directions, RDMReg, Target
from rectified_lpjepa.optim import Optimizer

TRAIN_SAMPLES, TEST_SAMPLES, BATCH = 40, 41, 12
OPTIMIZERS = ("lars", "adamw")


class Run(NamedTuple):
    """What one process is left with."""

    losses: list[float]
    drawn: list[float]
    parameters: dict[str, npt.NDArray[np.float64]]
    fitted: dict[str, float]
    validated: dict[str, float]
    indices: list[int]


class Recorded(RectifiedLpJEPA):
    """Notes which samples it validates, its own losses, and what a dropout layer would draw."""

    def on_train_start(self) -> None:
        super().on_train_start()
        self.indices: list[int] = []
        self.losses: list[float] = []
        self.drawn: list[float] = []

    def training_step(self, *args: Any) -> Any:
        self.drawn.append(float(torch.rand(())))
        output = super().training_step(*args)
        self.losses.append(float(output["terms"]["loss"]))
        return output

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.indices += batch.indices.tolist()
        super().validation_step(batch, batch_idx)


def model_without_batch_statistics(optimizer: Any) -> Recorded:
    vit = Backbone(
        "vit_tiny_patch16_224", kwargs={"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "drop_rate": 0.0}
    )
    model = tiny_model(
        Recorded,
        # A number of directions that two processes cannot share equally.
        objective=RDMReg(Target(p=1.0, mu=-0.5), Directions(num=37)),
        backbone=vit,
        optimizer=Optimizer(optimizer, lr=0.4, probe_lr=0.4, warmup_epochs=0),
        batch_size=BATCH,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.projector = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, DIM))
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    return model.double()  # so that what differs by rounding alone stays far from what differs


def work(rank: int, world_size: int, folder: Path, optimizer: str) -> Run:
    """Fit three steps with validation, validate again, and predict to a file."""
    arguments: dict[str, Any] = {"limit_train_batches": None, "limit_val_batches": None}
    if world_size > 1:
        elastic = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "test"}
        elastic |= {"WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
        os.environ |= {name: str(value) for name, value in elastic.items()}
        arguments |= {"devices": world_size, "strategy": "ddp_all_gather"}
    data = NpzDataModule(str(folder / "digits.npz"), image_size=16, batch_size=BATCH, eval_batch_size=16, seed=3)
    model = model_without_batch_statistics(optimizer)
    writer = FeatureWriter(str(folder / f"features-{world_size}-{optimizer}.npz"))
    trainer = quiet_trainer(folder, [writer], num_sanity_val_steps=0, **arguments)
    trainer.fit(model, data)
    fitted = {name: float(value) for name, value in trainer.callback_metrics.items()}
    parameters = {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}
    indices = model.indices.copy()
    [validated] = trainer.validate(model, data, verbose=False)
    trainer.predict(model, data, return_predictions=False)
    return Run(model.losses, model.drawn, parameters, fitted, validated, indices)


def work_on_both(rank: int, world_size: int, folder: Path) -> dict[str, Run]:
    warnings.filterwarnings("ignore", ".isinstance.treespec, LeafSpec", FutureWarning)  # Lightning's, with PyTorch's
    warnings.filterwarnings("ignore", r"The '\w+' does not have many workers")
    return {optimizer: work(rank, world_size, folder, optimizer) for optimizer in OPTIMIZERS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    train, test = slice(TRAIN_SAMPLES), slice(TRAIN_SAMPLES, TRAIN_SAMPLES + TEST_SAMPLES)
    split = {"x_train": images[train], "y_train": digits.target[train]}
    np.savez(path / "digits.npz", x_test=images[test], y_test=digits.target[test], **split)
    return path


@pytest.fixture(scope="module")
def two_processes(folder: Path) -> list[dict[str, Run]]:
    return run_processes(work_on_both, 2, folder, timeout=120)


@pytest.fixture(scope="module")
def one_process(folder: Path) -> dict[str, Run]:
    return work_on_both(0, 1, folder)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_equals_one_process(
    optimizer: str, two_processes: list[dict[str, Run]], one_process: dict[str, Run]
) -> None:
    runs, alone = [run[optimizer] for run in two_processes], one_process[optimizer]
    start = dict(model_without_batch_statistics(optimizer).named_parameters())
    assert len(alone.losses) == TRAIN_SAMPLES // BATCH
    for name, expected in alone.parameters.items():
        assert not np.allclose(expected, start[name].detach().numpy(), rtol=1e-4), f"{name} was not trained"
        scale = np.abs(expected).max()
        for run in runs:
            np.testing.assert_allclose(run.parameters[name], expected, rtol=1e-8, atol=1e-8 * scale, err_msg=name)
    # Each process has its own share of the loss.
    np.testing.assert_allclose(np.mean([run.losses for run in runs], axis=0), alone.losses, rtol=1e-9)
    assert runs[0].losses != runs[1].losses


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_logged_values_equal_one_process(
    optimizer: str, two_processes: list[dict[str, Run]], one_process: dict[str, Run]
) -> None:
    alone = one_process[optimizer]
    for run in (run[optimizer] for run in two_processes):
        assert run.fitted.keys() == alone.fitted.keys()
        # What is logged at each step is the process's own.
        shared = {name: value for name, value in alone.fitted.items() if not name.startswith("step/")}
        assert {name: run.fitted[name] for name in shared} == pytest.approx(shared, rel=1e-6)
        assert run.validated == pytest.approx(alone.validated, rel=1e-6)
        assert run.validated == {name: value for name, value in run.fitted.items() if name.startswith("val/")}


def test_dropout_differs_between_processes(two_processes: list[dict[str, Run]], one_process: dict[str, Run]) -> None:
    first, second = (run["lars"].drawn for run in two_processes)
    assert len(set(first + second)) == len(first + second) == 2 * (TRAIN_SAMPLES // BATCH)
    assert first == one_process["lars"].drawn


def test_validation_covers_each_sample_once(two_processes: list[dict[str, Run]]) -> None:
    shares = [run["lars"].indices for run in two_processes]
    assert sorted(shares[0] + shares[1]) == list(range(TEST_SAMPLES))
    assert min(len(share) for share in shares) >= TEST_SAMPLES // 2 - 2


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.usefixtures("two_processes", "one_process")
def test_prediction_writes_one_file_equal_to_one_process(optimizer: str, folder: Path) -> None:
    with np.load(folder / f"features-1-{optimizer}.npz") as file:
        alone = dict(file)
    with np.load(folder / f"features-2-{optimizer}.npz") as file:
        together = dict(file)
    assert together.keys() == alone.keys()
    np.testing.assert_array_equal(alone["indices"], np.arange(TEST_SAMPLES))
    for name in ("indices", "labels"):
        np.testing.assert_array_equal(together[name], alone[name])
    for name in ("encoder", "projector"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-6, atol=1e-6)
    assert not list(folder.glob(".*.part.npz"))
