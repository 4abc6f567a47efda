"""A checkpoint as a subject: its features, the files that keep them, and the data they are of."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from evaluated_run import write_config, write_run
from PIL import Image
from tiny_jepa import DIM, quiet_trainer, tiny_model

from rectified_lpjepa.data import Augmentation, DigitsDataModule, NpzDataModule
from rectified_lpjepa.data.image_ops import fit_square
from rectified_lpjepa.evaluation.datasets import DataSource, data_name
from rectified_lpjepa.evaluation.extraction import Devices, extract, with_channels
from rectified_lpjepa.evaluation.models import load_checkpoint
from rectified_lpjepa.evaluation.run import evaluate_one, open_subject
from rectified_lpjepa.evaluation.subject import ModelSubject, data_of_run
from rectified_lpjepa.jepa import RectifiedLpJEPA

DEVICES = Devices("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), train_samples=60)


@pytest.fixture
def subject(checkpoint: Path, tmp_path: Path) -> ModelSubject:
    model = load_checkpoint(checkpoint)
    return ModelSubject(model, data_of_run(checkpoint, model), tmp_path / "features", devices=DEVICES)


def forbid(*_: Any, **__: Any) -> None:
    raise AssertionError("features were computed")


def test_features_are_the_models_of_the_runs_own_samples(subject: ModelSubject, checkpoint: Path) -> None:
    model = RectifiedLpJEPA.load_from_checkpoint(checkpoint, weights_only=True).eval()
    data = DigitsDataModule(train_samples=60, seed=3)
    for split, count in (("train", 60), ("test", 360)):
        found = subject.features(split)
        stored = data.images(split)
        rows = data.positions(split)
        with torch.no_grad():
            expected = model(fit_square(stored.images[rows], 16))
        assert (len(found), found.num_classes, found.projector.shape[1]) == (count, 10, DIM)
        assert torch.equal(found.labels, stored.labels[rows])
        for name, features in expected._asdict().items():
            torch.testing.assert_close(getattr(found, name), features, rtol=1e-4, atol=1e-5)
    assert (subject.rectified, subject.seed, subject.model.step) == (True, 3, 2)
    assert float(subject.law.p) == 1.0
    assert subject.data.seed == 3


def test_what_a_killed_evaluation_was_writing_is_removed_after_a_day(subject: ModelSubject) -> None:
    subject.folder.mkdir(parents=True)
    left, young = (subject.folder / name for name in (".0123.npz", "..4567.0.part.npz"))
    for path in (left, young):
        path.write_bytes(b"")
    os.utime(left, (0, 0))
    subject.features("test")
    assert not left.exists()
    assert young.exists()


def test_features_are_computed_once_and_a_damaged_file_is_made_anew(
    subject: ModelSubject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = subject.features("test")
    [path] = subject.folder.iterdir()
    assert path.name.startswith("digits-")
    assert path.name.endswith(f"{subject.model.sha256[:16]}-test.npz")

    def again() -> ModelSubject:
        return ModelSubject(subject.model, subject.data, subject.folder, devices=DEVICES)

    with monkeypatch.context() as context:
        context.setattr("rectified_lpjepa.evaluation.subject.extract", forbid)
        assert torch.equal(again().features("test").encoder, first.encoder)
        assert subject.features("test") is first
        with pytest.raises(AssertionError, match="were computed"):
            subject.features("train")
    assert "damaged" not in capsys.readouterr().out

    whole = path.read_bytes()
    few = {name: value[:5] for name, value in np.load(path).items()}
    without = {name: value for name, value in np.load(path).items() if name != "encoder"}
    for damage in (whole[: len(whole) // 2], whole[:300] + b"\xff" + whole[301:], b"", few, without):
        if isinstance(damage, dict):
            np.savez(path, **damage)
        else:
            path.write_bytes(damage)
        assert torch.equal(again().features("test").encoder, first.encoder)
        assert "is damaged, or of other samples; it is made anew" in capsys.readouterr().out
        assert path.read_bytes()[:4] == whole[:4]


def test_views_are_augmented_images_and_another_draw_gives_others(subject: ModelSubject) -> None:
    first, second = subject.views("train", 30)
    assert len(first) == len(second) == 30
    labels = subject.features("train").labels
    assert torch.equal(first.labels, labels[torch.arange(30) * 60 // 30])
    assert (first.projector - second.projector).abs().max() > 1e-3
    again = subject.views("train", 30)
    assert torch.equal(again[1].encoder, second.encoder)
    other = subject.views("train", 30, draw=1)
    assert (other[0].encoder - first.encoder).abs().max() > 1e-3
    assert len(subject.views("test", 10_000)[0]) == 360
    assert not list(subject.folder.glob("*views*"))
    with pytest.raises(ValueError, match="Views of 0 samples"):
        subject.views("train", 0)


def test_two_evaluations_at_a_time_do_not_disturb_each_other(
    subject: ModelSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ModelSubject(subject.model, subject.data, subject.folder, devices=DEVICES)
    written: list[str] = []

    def meets_another(extractor: Any, data: Any, loader: Any, path: Path, devices: Devices) -> None:
        """Another one computes the same while this one is at it, and after it has written its file."""
        for _ in range(2):
            with monkeypatch.context() as context:
                context.setattr("rectified_lpjepa.evaluation.subject.extract", extract)
                assert len(other.views("test", 20)[0]) == 20
                assert len(other.features("test")) == 360
            if str(path) not in written:
                extract(extractor, data, loader, path, devices)
                written.append(str(path))

    monkeypatch.setattr("rectified_lpjepa.evaluation.subject.extract", meets_another)
    assert len(subject.views("test", 20)[0]) == 20
    assert len(subject.features("train")) == 60
    assert len(set(written)) == len(written) == 2
    assert not list(subject.folder.glob(".*"))


def test_views_without_augmentation_are_the_images_themselves(checkpoint: Path, tmp_path: Path) -> None:
    whole = Augmentation((1.0, 1.0), (1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, solarize=0.0)
    data = DigitsDataModule(augmentation=whole, train_samples=40)
    subject = ModelSubject(load_checkpoint(checkpoint), data, tmp_path, devices=DEVICES)
    for view in subject.views("train", 40):
        torch.testing.assert_close(view.encoder, subject.features("train").encoder, rtol=1e-3, atol=1e-4)


def test_embedded_batches_are_the_features(subject: ModelSubject) -> None:
    parts = [(subject.embed(images), images, labels) for images, labels in subject.batches("test")]
    assert {tuple(images.shape[1:]) for _, images, _ in parts} == {(1, 16, 16)}
    found = subject.features("test")
    torch.testing.assert_close(torch.cat([part.projector for part, *_ in parts]), found.projector, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.cat([labels for *_, labels in parts]), found.labels)
    assert set(parts[0][0].labels.tolist()) == {-1}


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    arrays = {f"x_{split}": generator.integers(0, 256, (20, 24, 24, 3), dtype=np.uint8) for split in ("train", "test")}
    path = tmp_path / "colours.npz"
    np.savez(path, **arrays, y_train=np.arange(20) % 2, y_test=np.arange(20) % 2)
    return path


def test_other_data_are_given_the_models_size_and_channels(subject: ModelSubject, colours: Path) -> None:
    data = subject.open(str(colours))
    assert (data_name(data), data.image_size) == ("colours", 16)
    images, labels = next(subject.batches("train", data))
    assert images.shape == (20, 1, 16, 16)
    found = subject.features("train", data)
    torch.testing.assert_close(found.encoder, subject.embed(images).encoder, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.labels, labels)
    assert {path.name.split("-")[0] for path in subject.folder.iterdir()} == {"colours"}


def test_colours_become_grey_and_grey_images_colours() -> None:
    colours = torch.rand(2, 3, 3, 4, 4)
    grey = with_channels(colours, 1)
    weights = torch.tensor([0.2989, 0.587, 0.114])
    torch.testing.assert_close(grey[:, :, 0], (colours * weights[:, None, None]).sum(2), rtol=1e-3, atol=1e-3)
    assert torch.equal(with_channels(grey, 3), grey.expand(2, 3, 3, 4, 4))
    assert with_channels(colours, 3) is colours


def test_names_of_data_sets(tmp_path: Path, colours: Path) -> None:
    source = DataSource(str(tmp_path))
    for name in ("digits", "cifar10", "cifar100", "dtd", "flowers102", "food101", "pets"):
        data = source.open(name, image_size=20)
        assert (data_name(data), data.image_size) == (name, 20)
    assert isinstance(source.open(str(colours), image_size=8), NpzDataModule)
    (tmp_path / "photos" / "train").mkdir(parents=True)
    assert data_name(source.open(str(tmp_path / "photos"), image_size=8)) == "photos"
    with pytest.raises(ValueError, match="HINT: Did you mean cifar10"):
        source.open("cifar", image_size=8)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        source.open(str(tmp_path / "no.npz"), image_size=8).positions("train")


def test_a_folder_without_splits_is_tested_on_and_never_trained_on(subject: ModelSubject, tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (60 * number, 0, 0)).save(folder / f"{number}.png")
    data = subject.open(str(tmp_path / "photos"))
    data.num_workers = 0
    assert subject.features("test", data).labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"photos has no folder train.*HINT: split the folder into train/<class>/"):
        subject.features("train", data)
    own = ModelSubject(subject.model, data, tmp_path / "features", devices=DEVICES)
    with pytest.raises(ValueError, match="has no folder train"):
        evaluate_one(own, "knn", {}, tmp_path)
    evaluate_one(own, "rank", {}, tmp_path)
    assert json.loads((tmp_path / "rank.json").read_text())["data"] | {"fingerprint": 0} == {
        "name": "photos",
        "fingerprint": 0,
        "train": None,
        "test": 4,
    }


def test_a_checkpoint_that_is_none_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no checkpoint"):
        load_checkpoint(tmp_path / "no.ckpt")
    whole = checkpoint.read_bytes()
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or truncated"):
        load_checkpoint(damaged)
    torch.save({"state_dict": {}}, damaged)
    with pytest.raises(ValueError, match="is not a checkpoint of `rectified-lpjepa fit`"):
        load_checkpoint(damaged)
    other = torch.load(checkpoint, weights_only=True)
    other["hyper_parameters"]["projector"]["out_dim"] += 1
    torch.save(other, damaged)
    with pytest.raises(ValueError, match="do not fit the model that the same file describes"):
        load_checkpoint(damaged)


def test_the_configuration_must_be_there_and_the_checkpoints_own(checkpoint: Path, tmp_path: Path) -> None:
    model = load_checkpoint(checkpoint)
    lone = tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(FileNotFoundError, match=r"There is no .*config.yaml.*`--data`"):
        data_of_run(lone, model)
    config = tmp_path / "config.yaml"
    for text in ("data: 3", "[", "model: {}"):
        config.write_text(text)
        with pytest.raises(ValueError, match="its `data` cannot be read"):
            data_of_run(lone, model)
    config.write_text("data: {class_path: no.Such}")
    with pytest.raises(ValueError, match=r"The data no.Such cannot be opened"):
        data_of_run(lone, model)
    write_config(config, image_size=24)
    with pytest.raises(ValueError, match="they have image_size 24, and the model was built for image_size 16"):
        data_of_run(lone, model)


def write_images(folder: Path, *, classes: int | None = 10, brightness: int = 255, channels: int = 1) -> None:
    """Leave a run on an ``.npz`` file: images of half their pixels black and half of a brightness, in some classes."""
    images = np.zeros((20, 16, 16, channels), np.uint8)
    images[:, 8:] = brightness
    labels = {} if classes is None else {f"y_{split}": np.arange(20) % classes for split in ("train", "test")}
    np.savez(folder / "images.npz", x_train=images, x_test=images, **labels)
    data = {
        "class_path": "rectified_lpjepa.data.NpzDataModule",
        "init_args": {"path": str(folder / "images.npz")},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": data}))


def built_for(folder: Path, **arguments: Any) -> Path:
    """Write the checkpoint of a model that was built for these data and never trained."""
    trainer = quiet_trainer(folder)
    trainer.strategy.connect(tiny_model(**arguments))
    checkpoint = folder / "checkpoints" / "last.ckpt"
    trainer.save_checkpoint(checkpoint)
    return checkpoint


@pytest.mark.parametrize(
    ("changed", "given", "built"),
    [
        ({"classes": 7}, "num_classes 7", "num_classes 10"),
        ({"brightness": 51}, "mean [0.1], std [0.1]", "mean [0.5], std [0.5]"),
        ({"classes": 7, "channels": 3}, "in_channels 3, num_classes 7", "in_channels 1, num_classes 10"),
    ],
)
def test_data_that_the_model_was_not_built_for_are_refused_unless_they_are_named(
    changed: dict[str, int], given: str, built: str, tmp_path: Path
) -> None:
    checkpoint = built_for(tmp_path, mean=[0.5], std=[0.5])
    write_images(tmp_path, **changed)
    for refuses in (lambda: data_of_run(checkpoint, load_checkpoint(checkpoint)), lambda: open_subject(checkpoint)):
        with pytest.raises(ValueError, match=r"config.yaml does not give the data that .*last.ckpt was") as error:
            refuses()
        assert f"they have {given}, and the model was built for {built}. " in str(error.value)
        assert "HINT" in str(error.value)
    subject, _ = open_subject(checkpoint, data=str(tmp_path / "images.npz"), devices=DEVICES)
    assert subject.data.num_classes == changed.get("classes", 10)


@pytest.mark.parametrize(("before", "now"), [(10, 10), (10, None), (None, 10)])
def test_the_models_own_data_are_known_again_but_for_roundings_and_labels(
    before: int | None, now: int | None, tmp_path: Path
) -> None:
    rounded = float(np.float32(0.1))
    checkpoint = built_for(tmp_path, num_classes=before, mean=[rounded], std=[rounded])
    write_images(tmp_path, classes=now, brightness=51)
    data = data_of_run(checkpoint, load_checkpoint(checkpoint))
    assert data.mean == pytest.approx([0.1], rel=1e-12)
    assert data.mean != [rounded]
    assert data.num_classes == now


def test_features_that_are_not_finite_are_refused(subject: ModelSubject) -> None:
    with torch.no_grad():
        subject.model.network.model.projector[-1].bias[0] = float("nan")
    with pytest.raises(ValueError, match="features of 360 of 360 samples are not finite"):
        subject.features("test")


def test_a_launch_that_does_not_fit_is_refused_by_the_names_of_these_options() -> None:
    with pytest.raises(ValueError, match="You set `--num_nodes 2`, but neither SLURM nor torchrun"):
        Devices("cpu", 1, 2).trainer()
