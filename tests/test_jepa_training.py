"""The training step: views, gradients, accumulation, randomness, precision and what the log says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tiny_jepa import BATCH, MODULES, TINY_RESNET, Recorder, digits, quiet_trainer, state_of_modules, tiny_model
from torch import Tensor

from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.jepa import Features, RectifiedLpJEPA
from rectified_lpjepa.networks import Backbone
from rectified_lpjepa.objectives import Directions, RDMReg, Target
from rectified_lpjepa.optim import Optimizer

TRAIN_SAMPLES = 1437


def train(model: RectifiedLpJEPA, path: Path, *callbacks: Callback, **arguments: Any) -> Recorder:
    """Train by a real trainer, and give back what it saw."""
    recorder = Recorder()
    ckpt_path = arguments.pop("ckpt_path", None)
    quiet_trainer(path, [recorder, *callbacks], **arguments).fit(model, digits(), ckpt_path=ckpt_path)
    return recorder


def by_hand(objective: RDMReg, z_VBD: npt.NDArray[Any], seed: int, step: int) -> dict[str, float]:
    """The loss and its parts from their equations, in NumPy, on the draws of a step."""
    target = objective.target.sample(z_VBD.shape[1:], generator=keyed_generator(seed, "target", step, 0)).numpy()
    blocks = objective.directions.draw(torch.from_numpy(z_VBD), seed=seed, step=step)
    directions = torch.cat([block() for block in blocks]).numpy()
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


class Log(Callback):
    """Keeps the last values of the epoch's log."""

    def on_train_end(self, trainer: Any, pl_module: RectifiedLpJEPA) -> None:
        self.values = {name: float(value) for name, value in trainer.callback_metrics.items()}


class Accumulated(NamedTuple):
    """Two batches of one accumulated step, and the same forward passes by hand."""

    recorder: Recorder
    log: dict[str, float]
    model: RectifiedLpJEPA
    features: list[list[Features]]

    @property
    def z(self) -> list[Tensor]:
        return [torch.stack([view.projector for view in views]) for views in self.features]

    def probe_loss(self, name: str) -> tuple[Tensor, npt.NDArray[Any], npt.NDArray[Any]]:
        """Cross-entropy of a probe over all views of both batches, the order of its classes, and the labels."""
        pairs = zip(self.features, self.recorder.batches, strict=True)
        seen = [(getattr(view, name).detach(), batch.labels) for views, batch in pairs for view in views]
        logits = torch.cat([self.model.probes[name].classifier(features) for features, _ in seen]).log_softmax(dim=1)
        labels = torch.cat([labels for _, labels in seen])
        loss = -logits[torch.arange(len(labels)), labels].mean()
        return loss, np.argsort(-logits.detach().numpy(), axis=1), labels.numpy()


@pytest.fixture
def accumulated(tmp_path: Path) -> Accumulated:
    log, model = Log(), tiny_model()
    recorder = train(tiny_model(), tmp_path, log, accumulate_grad_batches=2)
    assert [batch.number for batch in recorder.batches] == [0, 1]
    return Accumulated(
        recorder, log.values, model, [[model(view) for view in batch.images] for batch in recorder.batches]
    )


def test_accumulated_batches_are_matched_each_by_itself(accumulated: Accumulated) -> None:
    objective = accumulated.model.objective
    expected = [by_hand(objective, z.detach().numpy(), seed=3, step=step) for step, z in enumerate(accumulated.z)]
    for terms, values in zip(accumulated.recorder.terms, expected, strict=True):
        assert {name: float(terms[name]) for name in values} == pytest.approx(values, rel=1e-4)
    for name in expected[0]:
        mean = np.mean([values[name] for values in expected])
        assert accumulated.log[f"train/{name}"] == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("name", ["encoder", "projector"])
def test_probes_learn_from_every_view(accumulated: Accumulated, name: str) -> None:
    loss, order, labels = accumulated.probe_loss(name)
    assert len(labels) == 4 * BATCH
    assert accumulated.log[f"train/probe_{name}"] == pytest.approx(float(loss.detach()), rel=1e-4)
    for k in (1, 5):
        hits = (order[:, :k] == labels[:, None]).any(axis=1)
        assert accumulated.log[f"train/probe_{name}/top{k}"] == pytest.approx(hits.mean(), abs=1e-6)


def test_the_gradient_is_the_mean_of_the_accumulated_ones(accumulated: Accumulated) -> None:
    model = accumulated.model
    losses = [model.objective(z, z, seed=3, step=step).loss for step, z in enumerate(accumulated.z)]
    probes = [accumulated.probe_loss(name)[0] for name in model.probes]
    (torch.stack(losses).mean() + torch.stack(probes).sum()).backward()
    [gradients] = accumulated.recorder.gradients
    for name, parameter in model.named_parameters():
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
            "probe_encoder_bias": 0.02 * total / 256,
            "probe_projector": 0.02 * total / 256,
            "probe_projector_bias": 0.02 * total / 256,
        }
    )
    per_batch = "" if accumulate == 1 else ", the 3 accumulated batches each by themselves"
    assert values["loss taken over"] == f"{BATCH} images{per_batch}"
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
    recorder = train(model(**dropout), tmp_path, Save(), max_epochs=2)
    epoch = TRAIN_SAMPLES // BATCH  # the numbers of batches that are left out are not given to others
    assert recorder.steps == [0, 1, epoch, epoch + 1]
    whole = losses(recorder)
    torch.manual_seed(2)
    assert losses(train(model(**dropout), tmp_path, Disturbance(), max_epochs=2)) == whole
    torch.manual_seed(3)
    resumed = train(model(**dropout), tmp_path, max_epochs=2, ckpt_path=tmp_path / "first.ckpt")
    assert resumed.steps == recorder.steps[2:]
    assert losses(resumed) == whole[2:]
    # Each of the two was there at all.
    for kind in dropout:
        alone = losses(train(model(**{kind: dropout[kind]}), tmp_path, limit_train_batches=1))
        assert alone[0]["loss"] != whole[0]["loss"]


def test_each_step_and_view_drops_other_units(tmp_path: Path) -> None:
    drawn: list[float] = []

    class Drawing(RectifiedLpJEPA):
        def forward(self, images: Tensor) -> Any:
            drawn.append(float(torch.rand(())))  # from where dropout draws
            return super().forward(images)

    train(tiny_model(Drawing), tmp_path)
    assert len(set(drawn)) == len(drawn) == 4


# ----------------------------------------------------------------------------------------------------- precision


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
