"""The model outside of training: features, weights, evaluation, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
import torch
from lightning.pytorch import Trainer
from tiny_jepa import BATCH, CLASSES, DIM, TINY_RESNET, Recorder, digits, quiet_trainer, state_of_modules, tiny_model

from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.metrics import evaluated
from rectified_lpjepa.networks import Backbone, Projector
from rectified_lpjepa.objectives import Directions, RDMReg, Target
from rectified_lpjepa.optim import Optimizer

TEST_SAMPLES = 360

# ------------------------------------------------------------------------------------------------------ features


@pytest.mark.parametrize("rectifier", ["relu", "rep_relu", "none"])
def test_features_have_their_shapes_and_signs(rectifier: Any) -> None:
    model = tiny_model(rectifier=rectifier)
    encoder, preactivations, projector = model(torch.rand(5, 1, 16, 16))
    assert encoder.shape == (5, 16)
    assert preactivations.shape == projector.shape == (5, DIM)
    assert (preactivations < 0).any()
    assert (projector > 0).any()
    assert (projector < 0).any() == (rectifier == "none")


def test_forward_normalises_each_channel_then_applies_backbone_projector_and_rectifier() -> None:
    images = torch.rand(4, 3, 16, 16)
    model = tiny_model(in_channels=3, mean=[0.1, 0.5, 0.7], std=[0.2, 0.3, 2.0]).eval()
    encoder, preactivations, projector = model(images)
    normalised = images.clone()
    for channel, (mean, std) in enumerate([(0.1, 0.2), (0.5, 0.3), (0.7, 2.0)]):
        normalised[:, channel] = (images[:, channel] - mean) / std
    expected = model.backbone.model(normalised)
    torch.testing.assert_close(encoder, expected)
    torch.testing.assert_close(preactivations, model.projector(expected))
    torch.testing.assert_close(projector, preactivations.clamp(min=0))


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = tiny_model(seed=5)
    assert torch.equal(torch.get_rng_state(), before), "building a model moved the global generator"
    torch.manual_seed(2)
    same, unlabelled, other = tiny_model(seed=5), tiny_model(seed=5, num_classes=None), tiny_model(seed=6)
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name
    for name, value in state_of_modules(one).items():
        assert torch.equal(value, unlabelled.state_dict()[name]), name
    for name, parameter in one.named_parameters():
        drawn = "classifier" in name or parameter.ndim > 1
        assert torch.equal(parameter, other.get_parameter(name)) != drawn or "projector" in name, name


def test_unknown_view_passes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'both'.*each, joint"):
        tiny_model(view_passes="both")


def test_double_precision_sees_the_same_views(tmp_path: Path) -> None:
    recorders = {}
    for precision in ("32-true", "64-true"):
        recorders[precision] = Recorder()
        quiet_trainer(tmp_path, [recorders[precision]], precision=precision).fit(tiny_model(), digits())
    single, double = recorders["32-true"], recorders["64-true"]
    for one, other in zip(single.batches, double.batches, strict=True):
        torch.testing.assert_close(one.images, other.images, rtol=0, atol=0)
    assert double.features[0].dtype == torch.float64
    torch.testing.assert_close(single.terms[0]["invariance"].double(), double.terms[0]["invariance"], rtol=1e-4, atol=0)


# ---------------------------------------------------------------------------------------------------- evaluation


class Finished(NamedTuple):
    """A trained model, what its trainer logged, and what predict says of the validation samples."""

    model: RectifiedLpJEPA
    trainer: Trainer
    logged: dict[str, float]
    predicted: dict[str, npt.NDArray[Any]]
    checkpoint: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    path = tmp_path_factory.mktemp("run")
    model, data = tiny_model(), digits()
    trainer = quiet_trainer(path, max_epochs=2, limit_val_batches=None, log_every_n_steps=1)
    trainer.fit(model, data)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.save_checkpoint(path / "model.ckpt")
    batches = trainer.predict(model, data)
    predicted = {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}
    return Finished(model, trainer, logged, predicted, path / "model.ckpt")


def names_of_evaluation(split: str) -> set[str]:
    statistics = [f"sparsity/{key}" for key in ("l0", "l1")]
    statistics += [f"features/{key}" for key in ("mean", "variance", "dead_units", "zero_rows")]
    return (
        {f"{split}/probe_{features}/top{k}" for features in ("encoder", "projector") for k in (1, 5)}
        | {f"{split}/{name}" for name in statistics}
        | {f"{split}/{name}_target" for name in statistics}
    )


def test_logged_names(finished: Finished) -> None:
    terms = {"loss", "invariance", "rdmreg", "probe_encoder", "probe_projector"}
    accuracies = {f"train/probe_{features}/top{k}" for features in ("encoder", "projector") for k in (1, 5)}
    training = {f"train/{term}" for term in terms} | {f"step/{term}" for term in terms} | accuracies
    assert set(finished.logged) == training | names_of_evaluation("val")


def test_unlabelled_data_have_no_probes(tmp_path: Path) -> None:
    model = tiny_model(num_classes=None)
    assert len(model.probes) == 0
    trainer = quiet_trainer(tmp_path, limit_val_batches=1)
    trainer.fit(model, digits())
    assert "val/sparsity/l0" in trainer.callback_metrics
    assert not any("probe" in name for name in (*trainer.callback_metrics, *model.state_dict()))


def test_statistics_equal_numpy_on_the_predicted_features(finished: Finished) -> None:
    np.testing.assert_array_equal(finished.predicted["indices"], np.arange(TEST_SAMPLES))
    z = finished.predicted["projector"].astype(np.float64)
    norms = np.linalg.norm(z, axis=1)
    ratios = np.abs(z).sum(axis=1)[norms > 0] / norms[norms > 0]
    expected = {
        "sparsity/l0": np.count_nonzero(z) / z.size,
        "sparsity/l1": np.sum(ratios**2) / DIM / TEST_SAMPLES,
        "features/mean": z.mean(),
        "features/variance": z.var(axis=0).mean(),
        "features/dead_units": np.mean(z.max(axis=0) == 0),
        "features/zero_rows": np.mean(norms == 0),
    }
    assert 0 < expected["sparsity/l0"] < 1
    assert {name: finished.logged[f"val/{name}"] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_probe_accuracies_equal_numpy_on_the_predicted_features(finished: Finished) -> None:
    labels = finished.predicted["labels"]
    assert np.bincount(labels, minlength=CLASSES).min() > 30
    for name in ("encoder", "projector"):
        classifier = finished.model.probes[name].classifier
        weight, bias = classifier.weight.detach().numpy(), classifier.bias.detach().numpy()
        ranking = np.argsort(-(finished.predicted[name] @ weight.T + bias), axis=1)
        for k in (1, 5):
            accuracy = np.mean((ranking[:, :k] == labels[:, None]).any(axis=1))
            # One sample may stand on the edge between two classes.
            assert finished.logged[f"val/probe_{name}/top{k}"] == pytest.approx(accuracy, abs=1.5 / TEST_SAMPLES)


def test_the_test_split_gets_the_same_numbers_under_its_own_name(finished: Finished) -> None:
    [tested] = finished.trainer.test(finished.model, digits(), verbose=False)
    assert set(tested) == names_of_evaluation("test")
    assert {name.replace("test/", "val/", 1): value for name, value in tested.items()} == {
        name: value for name, value in finished.logged.items() if name.startswith("val/")
    }


def test_validation_features_lie_evenly_over_the_data(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluated, "_KEPT_ROWS", 100)
    data = digits()
    data.eval_batch_size = 64
    finished.trainer.validate(finished.model, data, verbose=False)
    features = finished.model.validation_features()
    assert features is not None
    assert features.dtype == torch.float32
    # Six batches of 60: every fourth row is the densest choice that gives 100 at most.
    torch.testing.assert_close(features, torch.from_numpy(finished.predicted["projector"][::4]))


def laplace_moments(mu: float, scale: float) -> tuple[float, float, float]:
    """ρ, mean and variance of a rectified Laplace variable with mu < 0: the integrals of its right tail."""
    tail = np.exp(mu / scale) / 2
    return tail, scale * tail, 2 * scale**2 * tail - (scale * tail) ** 2


def normal_moments(mu: float, scale: float) -> tuple[float, float, float]:
    """The same of a rectified normal variable."""
    active, density = scipy.stats.norm.cdf(mu / scale), scipy.stats.norm.pdf(mu / scale)
    mean = mu * active + scale * density
    return active, mean, (mu**2 + scale**2) * active + mu * scale * density - mean**2


@pytest.mark.parametrize(
    ("target", "moments"),
    [
        (Target(p=1.0, mu=-0.5), laplace_moments(-0.5, np.sqrt(0.5))),
        (Target(p=2.0, mu=0.3, sigma=0.8), normal_moments(0.3, 0.8)),
        (Target(p=2.0, mu=-0.4, sigma=1.5, rectified=False), (1.0, -0.4, 1.5**2)),
    ],
    ids=["rectified Laplace", "rectified normal", "normal"],
)
def test_predicted_statistics_are_the_laws(target: Target, moments: tuple[float, float, float], tmp_path: Path) -> None:
    model = tiny_model(objective=RDMReg(target, Directions(num=4)))
    [logged] = quiet_trainer(tmp_path, limit_val_batches=None).validate(model, digits(), verbose=False)
    active, mean, variance = moments
    expected = {
        "sparsity/l0": active,
        "features/mean": mean,
        "features/variance": variance,
        "features/dead_units": (1 - active) ** TEST_SAMPLES,
        "features/zero_rows": (1 - active) ** DIM,
    }
    predicted = {name: logged[f"val/{name}_target"] for name in expected}
    assert predicted == pytest.approx(expected, rel=1e-6, abs=1e-30)

    shape = (20000, DIM)
    generator = np.random.default_rng(0)
    mu, scale = target.resolved_mu, target.resolved_sigma
    z = generator.laplace(mu, scale, shape) if target.p == 1 else generator.normal(mu, scale, shape)
    z = np.abs(np.maximum(z, 0) if target.rectified else z)
    share = z.sum(axis=1) ** 2 / np.maximum((z**2).sum(axis=1), 1e-30) / DIM
    assert logged["val/sparsity/l1_target"] == pytest.approx(share.mean(), abs=6 * share.std() / np.sqrt(4096))


# --------------------------------------------------------------------------------------------------- checkpoints


def assert_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        assert type(value) is dict, where
        for key, part in value.items():
            assert type(key) is str, where
            assert_plain(part, f"{where}/{key}")
    elif isinstance(value, list):
        assert type(value) is list, where
        for part in value:
            assert_plain(part, where)
    else:
        assert value is None or type(value) in (bool, int, float, str), f"{where} is a {type(value)}"


def assert_loads_to_the_same(model: RectifiedLpJEPA, path: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    assert_plain(dict(checkpoint["hyper_parameters"]), "hyper_parameters")
    torch.manual_seed(99)
    loaded = RectifiedLpJEPA.load_from_checkpoint(path)
    images = torch.rand(6, *(model.hparams["in_channels"], 16, 16))
    for one, other in zip(model.eval()(images), loaded.eval()(images), strict=True):
        assert torch.equal(one, other)
    assert loaded.hparams == model.hparams
    assert loaded.objective.init_args == model.objective.init_args
    assert loaded.optimizer_settings == model.optimizer_settings
    for name in ("rectifier", "view_passes", "batch_size", "seed"):
        assert getattr(loaded, name) == getattr(model, name), name


def test_a_trained_model_loads_from_its_checkpoint(finished: Finished) -> None:
    assert_loads_to_the_same(finished.model, finished.checkpoint)


def test_every_argument_survives_a_checkpoint(tmp_path: Path) -> None:
    model = RectifiedLpJEPA(
        RDMReg(Target(p=1.5, active_fraction=0.3, sigma="rgn"), Directions("eigen_bottom_half", 33), 3.0, 7.0),
        backbone=Backbone("resnet26", 2, TINY_RESNET | {"drop_path_rate": 0.1}),
        projector=Projector(9, 7),
        rectifier="rep_relu",
        optimizer=Optimizer("adamw", 0.5, 0.25, 0.1, 0, 0.001, 0.8, (0.8, 0.9)),
        view_passes="joint",
        num_classes=None,
        image_size=16,
        in_channels=2,
        mean=list(np.array([0.25, 0.5])),  # NumPy's numbers
        std=[0.125, 0.75],
        batch_size=BATCH,
        seed=11,
    )
    trainer = quiet_trainer(tmp_path)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert_loads_to_the_same(model, tmp_path / "model.ckpt")
