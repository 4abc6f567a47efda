"""The data sets of torchvision, laid out on disk as it expects them: a few tiny images, no network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision.datasets import DTD, Flowers102, Food101, OxfordIIITPet

from rectified_lpjepa.data import TorchvisionDataModule
from rectified_lpjepa.data.image_files import resize_centre_crop


def draw(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (20 + number, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_dtd(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    for number, (split, name) in enumerate([("train", "banded"), ("val", "dotted"), ("test", "dotted")]):
        files = [f"banded/banded_{number}.jpg", f"{name}/{name}_1{number}.jpg"]
        for file in files:
            draw(folder / "images" / file, number)
        write(folder / "labels" / f"{split}1.txt", "\n".join(files))


def make_flowers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "flowers-102"
    folder.mkdir()
    for number in range(1, 6):
        draw(folder / "jpg" / f"image_{number:05d}.jpg", number)
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": [1, 102, 7, 1, 102]})
    scipy.io.savemat(folder / "setid.mat", {"trnid": [1, 3], "valid": [2, 4], "tstid": [5, 3]})
    hashes = {
        key: (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
        for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    monkeypatch.setattr(Flowers102, "_file_dict", Flowers102._file_dict | hashes)


def make_food(root: Path) -> None:
    folder = root / "food-101"
    for number, split in enumerate(("train", "test")):
        files = {name: [f"{name}/{number}{place}" for place in range(2)] for name in ("apple_pie", "waffles")}
        for listed in files.values():
            for file in listed:
                draw(folder / "images" / f"{file}.jpg", number)
        write(folder / "meta" / f"{split}.json", json.dumps(files))


def make_pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    for number, split in enumerate(("trainval", "test")):
        names = [(f"Abyssinian_{number}", 1), (f"yorkshire_terrier_{number}", 37)]
        for name, _ in names:
            draw(folder / "images" / f"{name}.jpg", number)
        write(folder / "annotations" / f"{split}.txt", "".join(f"{name} {label} 1 1\n" for name, label in names))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_dtd(tmp_path)
    make_flowers(tmp_path, monkeypatch)
    make_food(tmp_path)
    make_pets(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind", "train_parts", "classes"),
    [
        ("dtd", DTD, ("train", "val"), 47),
        ("flowers102", Flowers102, ("train", "val"), 102),
        ("food101", Food101, ("train",), 101),
        ("pets", OxfordIIITPet, ("trainval",), 37),
    ],
)
def test_images_and_labels_are_torchvisions(
    root: Path, name: str, kind: type, train_parts: tuple, classes: int
) -> None:
    data = TorchvisionDataModule(name, str(root), image_size=16, num_workers=0)
    assert (data.num_classes, data.in_channels, data.facts()["data"]) == (classes, 3, name)
    for split, parts in (("train", train_parts), ("test", ("test",))):
        expected = [sample for part in parts for sample in kind(str(root), split=part)]
        images = data.images(split)
        assert images.labels.tolist() == [label for _, label in expected]
        read = images.read_evaluation(torch.arange(len(expected)))
        for row, (image, _) in zip(read, expected, strict=True):
            np.testing.assert_array_equal(row.permute(1, 2, 0), np.asarray(resize_centre_crop(image, 16)))


def test_the_fingerprint_names_the_data_and_its_files(root: Path) -> None:
    prints = {name: TorchvisionDataModule(name, str(root)).fingerprint for name in ("dtd", "food101", "pets")}
    assert len(set(prints.values())) == 3
    assert prints["pets"] == TorchvisionDataModule("pets", str(root), image_size=32).fingerprint
    listed = root / "oxford-iiit-pet" / "annotations" / "test.txt"
    listed.write_text(listed.read_text() + "Abyssinian_7 1 1 1\n")
    assert prints["pets"] != TorchvisionDataModule("pets", str(root)).fingerprint


def test_what_is_not_there_is_said_and_nothing_is_downloaded(tmp_path: Path) -> None:
    data = TorchvisionDataModule("food101", str(tmp_path))
    data.prepare_data()
    with pytest.raises(FileNotFoundError, match=r"There is no food101.*HINT") as error:
        data.images("test")
    for advice in ("evaluate … --download true", "run … --download", "evaluate … --root", "run … --datasets FOLDER"):
        assert advice in str(error.value)
    with pytest.raises(ValueError, match=r"no data set 'food'\. Choose one of dtd, flowers102, food101, pets"):
        TorchvisionDataModule("food", str(tmp_path))


def test_it_is_downloaded_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Food101, "_download", lambda self: make_food(Path(self.root)))
    data = TorchvisionDataModule("food101", str(tmp_path), download=True)
    data.prepare_data()
    assert len(data.positions("train")) == 4
