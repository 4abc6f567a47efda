"""The model on two processes: training, validation and prediction equal one process's with the same global batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from processes import become_one_of, run_processes
from sklearn.datasets import load_digits
from tiny_jepa import DIM, MODULES, TINY_RESNET, quiet_trainer, tiny_model
from torch import nn

from rectified_lpjepa.callbacks import FeatureWriter
from rectified_lpjepa.data import LocalCrops, NpzDataModule
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.networks import Backbone
from rectified_lpjepa.objectives import Directions, RDMReg, Target
from rectified_lpjepa.optim import Optimizer

TRAIN_SAMPLES, TEST_SAMPLES, BATCH = 40, 41, 12
# Batch norm makes the network see all samples of the batch: it is synchronised.
CASES = {"vit, lars": "lars", "vit, adamw": "adamw", "resnet, adamw": "adamw", "resnet, local crops": "adamw"}


class Run(NamedTuple):
    """What one process is left with."""

    losses: list[float]
    drawn: list[float]
    gradients: list[dict[str, npt.NDArray[np.float64]]]
    """Of each step."""
    state: dict[str, npt.NDArray[np.float64]]
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
        self.gradients: list[dict[str, npt.NDArray[np.float64]]] = []

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        gradients = {name: parameter.grad for name, parameter in self.named_parameters()}
        self.gradients.append({name: grad.numpy().copy() for name, grad in gradients.items() if grad is not None})

    def training_step(self, *args: Any) -> Any:
        self.drawn.append(float(torch.rand(())))
        output = super().training_step(*args)
        self.losses.append(float(output["loss"].detach()))
        return output

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.indices += batch.indices.tolist()
        super().validation_step(batch, batch_idx)


def model_of(case: str) -> Recorded:
    vit = Backbone(
        "vit_tiny_patch16_224", kwargs={"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "drop_rate": 0.0}
    )
    model = tiny_model(
        Recorded,
        # A number of directions that two processes cannot share equally.
        objective=RDMReg(Target(p=1.0, mu=-0.5), Directions(num=37)),
        backbone=vit if "vit" in case else Backbone(kwargs=TINY_RESNET),
        optimizer=Optimizer(CASES[case], lr=0.4 if "vit" in case else 0.1, probe_lr=0.4, warmup_epochs=0),
        batch_size=BATCH,
        local_size=8 if "local" in case else None,
    )
    if "vit" in case:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model.projector = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, DIM))
    else:
        for layer in (0, 3):  # before a batch norm: AdamW makes steps of what rounding leaves of a vanishing gradient
            model.projector[layer].bias.requires_grad_(False)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert bool(norms) == ("resnet" in case)
    return model.double()  # so that what differs by rounding alone stays far from what differs


def work(world_size: int, folder: Path, case: str) -> Run:
    """Fit three steps with validation, validate again, and predict to a file."""
    arguments: dict[str, Any] = {"limit_train_batches": None, "limit_val_batches": None}
    if world_size > 1:
        arguments |= {"devices": world_size, "strategy": "ddp_all_gather", "sync_batchnorm": True}
    several: dict[str, Any] = {"views": 3, "local_crops": LocalCrops(num=2, size=8)} if "local" in case else {}
    data = NpzDataModule(
        str(folder / "digits.npz"), image_size=16, batch_size=BATCH, eval_batch_size=16, seed=3, **several
    )
    model = model_of(case)
    writer = FeatureWriter(str(folder / f"features-{world_size}-{case}.npz"))
    trainer = quiet_trainer(folder, [writer], num_sanity_val_steps=0, log_every_n_steps=1, **arguments)
    trainer.fit(model, data)
    fitted = {name: float(value) for name, value in trainer.callback_metrics.items()}
    state = {name: value.numpy().copy() for name, value in model.state_dict().items() if name.startswith(MODULES)}
    state |= {name: value.detach().numpy().copy() for name, value in model.probes.named_parameters()}
    assert not any(
        isinstance(module, nn.SyncBatchNorm) or "Sync" in type(module).__name__ for module in model.modules()
    )
    indices = model.indices.copy()
    [validated] = trainer.validate(model, data, verbose=False)
    trainer.predict(model, data, return_predictions=False)
    return Run(model.losses, model.drawn, model.gradients, state, fitted, validated, indices)


def work_on_all(rank: int, world_size: int, folder: Path) -> dict[str, Run]:
    if world_size > 1:
        become_one_of(rank, world_size)
    return {case: work(world_size, folder, case) for case in CASES}


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
    return run_processes(work_on_all, 2, folder, timeout=120)


@pytest.fixture(scope="module")
def one_process(folder: Path) -> dict[str, Run]:
    return work_on_all(0, 1, folder)


@pytest.mark.parametrize("case", CASES)
def test_training_equals_one_process(
    case: str, two_processes: list[dict[str, Run]], one_process: dict[str, Run]
) -> None:
    runs, alone = [run[case] for run in two_processes], one_process[case]
    start = model_of(case).state_dict()
    assert len(alone.losses) == len(alone.gradients) == TRAIN_SAMPLES // BATCH
    for name, expected in alone.state.items():
        if name.endswith((".weight", "running_mean")) and name in start:
            assert not np.allclose(expected, start[name].numpy(), rtol=1e-4), f"{name} was not trained"
        scale = np.abs(expected).max()
        for run in runs:
            np.testing.assert_allclose(run.state[name], expected, rtol=1e-8, atol=1e-8 * scale, err_msg=name)
    for step, gradients in enumerate(alone.gradients):
        for run in runs:
            assert run.gradients[step].keys() == gradients.keys()
            for name, expected in gradients.items():
                error = float(np.linalg.norm(run.gradients[step][name] - expected))
                assert error <= 1e-8 * float(np.linalg.norm(expected)), f"{name} in step {step}"
    # Each process has its own share of the loss.
    np.testing.assert_allclose(np.mean([run.losses for run in runs], axis=0), alone.losses, rtol=1e-9)
    assert runs[0].losses != runs[1].losses


@pytest.mark.parametrize("case", CASES)
def test_logged_values_equal_one_process(
    case: str, two_processes: list[dict[str, Run]], one_process: dict[str, Run]
) -> None:
    alone = one_process[case]
    for run in (run[case] for run in two_processes):
        assert run.fitted.keys() == alone.fitted.keys()
        assert "step/rdmreg" in alone.fitted
        assert run.fitted == pytest.approx(alone.fitted, rel=1e-6)
        assert run.validated == pytest.approx(alone.validated, rel=1e-6)
        assert run.validated == {name: value for name, value in run.fitted.items() if name.startswith("val/")}


def test_dropout_differs_between_processes(two_processes: list[dict[str, Run]], one_process: dict[str, Run]) -> None:
    first, second = (run["vit, lars"].drawn for run in two_processes)
    assert len(set(first + second)) == len(first + second) == 2 * (TRAIN_SAMPLES // BATCH)
    assert first == one_process["vit, lars"].drawn


def test_validation_covers_each_sample_once(two_processes: list[dict[str, Run]]) -> None:
    shares = [run["vit, lars"].indices for run in two_processes]
    assert sorted(shares[0] + shares[1]) == list(range(TEST_SAMPLES))
    assert min(len(share) for share in shares) >= TEST_SAMPLES // 2 - 2


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("two_processes", "one_process")
def test_prediction_writes_one_file_equal_to_one_process(case: str, folder: Path) -> None:
    with np.load(folder / f"features-1-{case}.npz") as file:
        alone = dict(file)
    with np.load(folder / f"features-2-{case}.npz") as file:
        together = dict(file)
    assert together.keys() == alone.keys()
    np.testing.assert_array_equal(alone["indices"], np.arange(TEST_SAMPLES))
    for name in ("indices", "labels"):
        np.testing.assert_array_equal(together[name], alone[name])
    for name in ("encoder", "projector"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-6, atol=1e-6)
    assert not list(folder.glob(".*.part.npz"))
