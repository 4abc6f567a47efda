"""A timm model as a subject: its images are those of its pretraining, and it is told apart from all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.data import resolve_model_data_config

from rectified_lpjepa.data.image_ops import fit_square
from rectified_lpjepa.evaluation.datasets import DataSource
from rectified_lpjepa.evaluation.extraction import Devices
from rectified_lpjepa.evaluation.models import load_timm
from rectified_lpjepa.evaluation.subject import ModelSubject

TIMM = "test_resnet.r160_in1k"


def test_a_timm_model_gets_the_images_of_its_pretraining(tmp_path: Path) -> None:
    model = load_timm(TIMM, seed=1)
    assert (model.image_size, model.in_channels, model.law, model.step) == (160, 3, None, None)
    data = DataSource().open("digits", image_size=model.image_size)
    data.train_samples = 12
    found = ModelSubject(model, data, tmp_path, devices=Devices("cpu")).features("train")
    assert (found.projector, found.preactivations, set(found.kinds())) == (None, None, {"encoder"})

    torch.manual_seed(1)
    plain = timm.create_model(TIMM, num_classes=0).eval()
    config = resolve_model_data_config(plain)
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    images = fit_square(data.images("train").images[data.positions("train")], 160).expand(-1, 3, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(found.encoder, plain((images - mean) / std), rtol=1e-4, atol=1e-5)


def test_models_are_told_apart_by_their_weights() -> None:
    hashes = {load_timm(TIMM, seed=seed).sha256 for seed in (1, 1, 2)}
    assert len(hashes) == 2
    with pytest.raises(ValueError, match=r"timm has no model 'resnet51'. HINT: Near names: .*resnet50"):
        load_timm("resnet51")


@pytest.mark.parametrize(
    "other",
    [{"mean": (0.1, 0.2, 0.3)}, {"std": (0.1, 0.2, 0.3)}, {"input_size": (3, 96, 96)}],
    ids=["mean", "std", "size"],
)
def test_models_of_the_same_weights_are_told_apart_by_their_images(
    other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = load_timm(TIMM).sha256
    monkeypatch.setattr(
        "rectified_lpjepa.evaluation.models.resolve_model_data_config",
        lambda model: resolve_model_data_config(model) | other,
    )
    assert load_timm(TIMM).sha256 != known


def test_models_of_the_same_weights_are_told_apart_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda _, **arguments: create(TIMM, **arguments))
    assert load_timm(TIMM).sha256 != load_timm("test_resnet").sha256
