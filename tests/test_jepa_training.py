"""The training step: views, gradients, accumulation, randomness, precision and what the log says of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from tiny_jepa import BATCH, MODULES, TINY_RESNET, Recorder, digits, quiet_trainer, state_of_modules, tiny_model
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.networks import Backbone
from rectified_lpjepa.objectives import Directions, RDMReg, Target
from rectified_lpjepa.optim import Optimizer


def train(model: RectifiedLpJEPA, path: Path, *callbacks: Callback, **arguments: Any) -> Recorder:
    """Train by a real trainer, and give back what it saw."""
    recorder = Recorder()
    ckpt_path = arguments.pop("ckpt_path", None)
    quiet_trainer(path, [recorder, *callbacks], **arguments).fit(model, digits(), ckpt_path=ckpt_path)
    return recorder


def by_hand(objective: RDMReg, z_VBD: npt.NDArray[Any], seed: int, step: int) -> dict[str, float]:
    """The loss and its parts from their equations, in NumPy, on the draws of a step."""
    target = objective.target.sample(z_VBD.shape[1:], generator=keyed_generator(seed, "target", step)).numpy()
    directions = torch.cat(objective.directions.draw(torch.from_numpy(z_VBD), seed=seed, step=step)).numpy()
    distances = [
        np.mean((np.sort(z_BD @ direction) - np.sort(target @ direction)) ** 2)
        for z_BD in z_VBD
        for direction in directions
    ]
    parts = {"invariance": np.mean((z_VBD[0] - z_VBD[1]) ** 2), "rdmreg": np.mean(distances)}
    return {"loss": 25 * parts["invariance"] + 125 * parts["rdmreg"], **parts}


# --------------------------------------------------------------------------------------------------------- views


class Evaluating(Callback):
    """Takes each training step in evaluation mode."""

    def on_train_batch_start(self, trainer: Any, pl_module: RectifiedLpJEPA, batch: Any, batch_idx: int) -> None:
        pl_module.eval()


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_passes_of_the_views(mode: str, tmp_path: Path) -> None:
    features = {}
    for view_passes in ("each", "joint"):
        callbacks = [Evaluating()] if mode == "evaluation" else []
        recorder = train(tiny_model(view_passes=view_passes), tmp_path, *callbacks, limit_train_batches=1)
        [features[view_passes]] = recorder.features
        views = recorder.batches[0].images
        assert views.shape == (2, BATCH, 1, 16, 16)

    model = tiny_model().train(mode == "training")
    expected = {
        "each": torch.stack([model(views[0]).projector, model(views[1]).projector]),
        "joint": torch.stack(model(torch.cat([*views])).projector.split(BATCH)),
    }
    for view_passes, features_VBD in features.items():
        torch.testing.assert_close(features_VBD, expected[view_passes])
    differ = (features["each"] - features["joint"]).abs().max() > 1e-3
    assert differ == (mode == "training")


# ---------------------------------------------------------------------------------------------- gradients and log


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
def test_probes_leave_the_network_as_it_is_to_the_last_bit(optimizer: Any, tmp_path: Path) -> None:
    settings = Optimizer(optimizer, lr=0.1, probe_lr=0.1, warmup_epochs=0)
    with_probes, without = (tiny_model(optimizer=settings, num_classes=classes) for classes in (10, None))
    seen, unseen = train(with_probes, tmp_path), train(without, tmp_path)
    assert len(seen.gradients) == len(unseen.gradients) == 2
    for gradients, expected in zip(seen.gradients, unseen.gradients, strict=True):
        assert [name for name in gradients if name.startswith(MODULES)] == list(expected)
        for name, gradient in gradients.items():
            assert gradient.any(), name
            assert name.startswith("probes.") or torch.equal(gradient, expected[name]), name
    for name, value in state_of_modules(without).items():
        assert torch.equal(with_probes.state_dict()[name], value), name


class LinearLog(Callback):
    """Keeps the last values of the epoch's log."""

    def on_train_end(self, trainer: Any, pl_module: RectifiedLpJEPA) -> None:
        self.values = {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_accumulated_batches_are_matched_each_by_itself(tmp_path: Path) -> None:
    log, model = LinearLog(), tiny_model()
    recorder = train(model, tmp_path, log, accumulate_grad_batches=2)

    plain = tiny_model()
    z_by_batch = [torch.stack([plain(view).projector for view in batch.images]) for batch in recorder.batches]
    expected = [
        by_hand(plain.objective, z.detach().numpy(), plain.seed, batch.number)
        for z, batch in zip(z_by_batch, recorder.batches, strict=True)
    ]
    assert [batch.number for batch in recorder.batches] == [0, 1]
    for terms, values in zip(recorder.terms, expected, strict=True):
        assert {name: float(terms[name]) for name in values} == pytest.approx(values, rel=1e-4)
    for name in expected[0]:
        assert log.values[f"train/{name}"] == pytest.approx(np.mean([values[name] for values in expected]), rel=1e-4)

    # One step, with the mean of the two gradients.
    losses = [
        plain.objective(z, z, seed=plain.seed, step=batch.number).loss
        for z, batch in zip(z_by_batch, recorder.batches, strict=True)
    ]
    sum(losses, start=torch.zeros(())).div(2).backward()
    [gradients] = recorder.gradients
    for name, parameter in plain.named_parameters():
        if name.startswith(MODULES):
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4)


class Facts(Callback):
    def on_train_start(self, trainer: Any, pl_module: RectifiedLpJEPA) -> None:
        self.values = pl_module.facts()


@pytest.mark.parametrize("accumulate", [1, 3])
def test_facts_say_the_effective_rates_and_what_is_matched(accumulate: int, tmp_path: Path) -> None:
    facts = Facts()
    settings = Optimizer("lars", lr=0.4, probe_lr=0.02, warmup_epochs=1)
    arguments = {"limit_train_batches": 4, "max_epochs": 2, "accumulate_grad_batches": accumulate}
    recorder = train(tiny_model(optimizer=settings), tmp_path, facts, **arguments)
    total = BATCH * accumulate
    values = facts.values
    assert json.loads(json.dumps(values)) == values
    assert values["images per step"] == total
    assert values["peak learning rates"] == pytest.approx(
        {
            "weights": 0.4 * total / 256,
            "biases_and_norms": 0.4 * total / 256,
            "probe_encoder": 0.02 * total / 256,
            "probe_projector": 0.02 * total / 256,
        }
    )
    per_batch = "" if accumulate == 1 else ", the 3 accumulated batches each by themselves"
    assert values["distribution matched over"] == f"{BATCH} images{per_batch}"
    steps = {1: 8, 3: 4}[accumulate]
    assert values["steps"] == len(recorder.rates) == steps
    assert (values["processes"], values["seed"], values["optimizer"]) == (1, 3, "lars")
    assert values["backbone"] == "resnet18"
    assert (values["p"], values["mu"]) == (1.0, -0.5)
    assert values["sigma"] == pytest.approx(np.sqrt(0.5))
    assert values["active fraction of the target"] == pytest.approx(np.exp(-0.5 / np.sqrt(0.5)) / 2)
    # The peak is reached when the warm-up of one epoch ends.
    assert recorder.rates[steps // 2] == pytest.approx(values["peak learning rates"])


@pytest.mark.parametrize("max_epochs", [-1, 1000])
def test_warm_up_lasts_epochs_also_where_the_run_is_limited_by_steps(max_epochs: int, tmp_path: Path) -> None:
    settings = Optimizer("adamw", lr=0.256, probe_lr=0.256, warmup_epochs=2, warmup_start_lr=0.0)
    model = tiny_model(optimizer=settings)
    recorder = train(model, tmp_path, max_steps=7, max_epochs=max_epochs, limit_train_batches=2)
    peak = 0.256 * BATCH / 256
    rates = [rates["weights"] for rates in recorder.rates]
    assert rates[:5] == pytest.approx([0, 0.25 * peak, 0.5 * peak, 0.75 * peak, peak])
    assert len(rates) == 7
    assert peak > rates[5] > rates[6] > 0


# ---------------------------------------------------------------------------------------------------- randomness


class Disturbance(Callback):
    """Draws from the global generator between the steps."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        torch.rand(batch_idx + 1)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        torch.rand(7)


class Save(Callback):
    """Saves at the end of the first epoch."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "first.ckpt")


def test_dropout_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    def model(**dropout: float) -> RectifiedLpJEPA:
        return tiny_model(backbone=Backbone(kwargs=TINY_RESNET | dropout))

    def losses(recorder: Recorder) -> list[dict[str, float]]:
        return [{name: float(value) for name, value in terms.items()} for terms in recorder.terms]

    dropout = {"drop_rate": 0.3, "drop_path_rate": 0.5}
    torch.manual_seed(1)
    whole = losses(train(model(**dropout), tmp_path, Save(), max_epochs=2))
    torch.manual_seed(2)
    assert losses(train(model(**dropout), tmp_path, Disturbance(), max_epochs=2)) == whole
    torch.manual_seed(3)
    resumed = train(model(**dropout), tmp_path, max_epochs=2, ckpt_path=tmp_path / "first.ckpt")
    assert losses(resumed) == whole[2:]
    # Each of the two was there at all.
    for kind in dropout:
        alone = losses(train(model(**{kind: dropout[kind]}), tmp_path, limit_train_batches=1))
        assert alone[0]["loss"] != whole[0]["loss"]


def test_each_step_drops_other_units(tmp_path: Path) -> None:
    dropped: list[Tensor] = []

    class Watched(RectifiedLpJEPA):
        def forward(self, images: Tensor) -> Any:
            features = super().forward(images)
            dropped.append(features.encoder == 0)
            return features

    train(tiny_model(Watched, backbone=Backbone(kwargs=TINY_RESNET | {"drop_rate": 0.5})), tmp_path)
    assert len(dropped) == 4
    for one in range(4):
        for other in range(one):
            assert not torch.equal(dropped[one], dropped[other])


# ----------------------------------------------------------------------------------------------- precision, speed


def test_autocast_ends_at_the_features(tmp_path: Path) -> None:
    recorder = train(tiny_model(), tmp_path, precision="bf16-mixed", limit_train_batches=1)
    [z], [terms] = recorder.features, recorder.terms
    assert z.dtype == torch.bfloat16
    objective = RDMReg(Target(p=1.0, mu=-0.5), Directions(num=16))
    expected = objective(z.float(), z.float(), seed=3, step=0)
    assert terms["loss"].dtype == torch.float32
    assert torch.equal(terms["loss"], expected.loss)
    for name, value in expected.parts.items():
        assert torch.equal(terms[name], value)
    values = by_hand(objective, z.float().numpy(), 3, 0)
    assert {name: float(terms[name]) for name in values} == pytest.approx(values, rel=1e-4)


class _Watch(TorchDispatchMode):
    WAITING = ("_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "bincount")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name.startswith("index") and any(
            index.dtype == torch.bool for index in pytree.tree_leaves(args[1:]) if isinstance(index, Tensor)
        )
        assert name not in self.WAITING and not masked, f"{func} makes the host wait"
        return func(*args, **(kwargs or {}))


def _one_hot(classes: Tensor, num_classes: int) -> Tensor:
    return (classes[..., None] == torch.arange(num_classes)).long()


@contextmanager
def no_waiting() -> Iterator[None]:
    """Fail where the host would wait for a device: at values, and at shapes that depend on values."""
    waits = AssertionError("makes the host wait")
    with ExitStack() as stack:
        for method in ("tolist", "numpy", "cpu"):  # on the CPU these are no operations
            stack.enter_context(mock.patch.object(Tensor, method, side_effect=waits))
        # On the CPU alone PyTorch's own checks the values of its input.
        stack.enter_context(mock.patch.object(F, "one_hot", _one_hot))
        stack.enter_context(_Watch())
        yield


class Unwaiting(RectifiedLpJEPA):
    watched = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        # In the first step the target's location and scale become known.
        with no_waiting() if batch.number else nullcontext():
            self.watched += batch.number > 0
            return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        with no_waiting():
            self.watched += 1
            super().validation_step(batch, batch_idx)


def test_steps_never_wait_for_the_device(tmp_path: Path) -> None:
    for read in (Tensor.item, bool, float, lambda x: x.tolist(), lambda x: x.cpu(), lambda x: x[x > 0]):
        with pytest.raises(AssertionError, match="makes the host wait"), no_waiting():
            read(torch.ones(1))
    model = tiny_model(Unwaiting)
    train(model, tmp_path, limit_val_batches=1, num_sanity_val_steps=0)
    assert model.watched == 2
