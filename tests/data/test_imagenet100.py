"""ImageNet-100: the published list of its classes, its counts, and the manifest of its files."""

import hashlib
import os
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from rectified_lpjepa.data import ImageNet100DataModule
from rectified_lpjepa.data.folder import ImageFolderDataModule
from rectified_lpjepa.data.imagenet100 import imagenet100_classes


def imagenet_module(root: Path, **arguments: Any) -> ImageNet100DataModule:
    defaults = {"image_size": 32, "num_workers": 0, "verify_counts": False}
    return ImageNet100DataModule(str(root), **(defaults | arguments))


@pytest.fixture(scope="module")
def ilsvrc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with one tiny image for each class, and a class that is none of the hundred."""
    root = tmp_path_factory.mktemp("ilsvrc")
    for split in ("train", "val"):
        for number, name in enumerate([*imagenet100_classes(), "n00000001"]):
            folder = root / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (40, 36), (number, 2 * number, 255 - number)).save(folder / f"{name}_1.JPEG")
    return root


def test_the_list_of_classes_is_the_published_one() -> None:
    data = (files("rectified_lpjepa.data") / "imagenet100_classes.txt").read_bytes()
    assert hashlib.sha256(data).hexdigest() == "4fc6a97a4fa321b699335807ad729615f7d84c8e816d9d7240c70f551e91c69f"
    classes = imagenet100_classes()
    assert len(set(classes)) == 100
    assert classes == sorted(data.decode().split())
    assert (classes[0], classes[-1]) == ("n01558993", "n13040303")


def test_facts_are_known_without_the_data() -> None:
    module = ImageNet100DataModule("nowhere")
    assert (module.num_classes, module.in_channels, module.image_size) == (100, 3, 224)
    assert module.mean == [0.485, 0.456, 0.406]
    assert module.augmentation.blur == 0.5
    assert module.counts == {"train": 126_689, "test": 5_000}


def test_labels_are_torchvisions_for_a_tree_of_these_classes(ilsvrc: Path, tmp_path: Path) -> None:
    module = imagenet_module(ilsvrc, batch_size=100)
    module.setup("fit")
    (batch,) = module.train_dataloader()
    assert sorted(batch.labels.tolist()) == list(range(100))
    shutil.copytree(ilsvrc / "train", tmp_path / "train")
    shutil.rmtree(tmp_path / "train" / "n00000001")
    reference = ImageFolder(tmp_path / "train")
    paths = [name for names in module.files("train").values() for name in names]
    labels = module.images("train").labels.tolist()
    assert [
        (str(tmp_path / "train" / path), label) for path, label in zip(paths, labels, strict=True)
    ] == reference.samples


def test_counts_are_verified(ilsvrc: Path) -> None:
    with pytest.raises(ValueError, match=r"train has 100 images .* expected 126,689.*verify_counts"):
        imagenet_module(ilsvrc, verify_counts=True).setup("fit")
    with pytest.raises(ValueError, match=r"val has 100 images .* expected 5,000"):
        imagenet_module(ilsvrc, verify_counts=True).setup("validate")
    imagenet_module(ilsvrc).setup("fit")


def test_complete_counts_pass(ilsvrc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageNet100DataModule, "counts", {"train": 100, "test": 100})
    module = imagenet_module(ilsvrc, verify_counts=True)
    module.setup("fit")
    assert module.facts()["training images"] == 100


def test_missing_classes_are_named(tmp_path: Path) -> None:
    names = imagenet100_classes()
    for split in ("train", "val"):
        for name in names[:98]:
            (tmp_path / split / name).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=rf"lacks {names[98]} \(2 of the 100 classes are missing") as incomplete:
        imagenet_module(tmp_path).setup("fit")
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*train") as missing:
        imagenet_module(tmp_path / "nowhere").setup("fit")
    for error in (incomplete, missing):
        assert "must be requested from image-net.org and unpacked to train/<wnid>/ and val/<wnid>/" in str(error.value)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    for name in imagenet100_classes():
        (tmp_path / "val" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match="n01558993 has no images"):
        imagenet_module(tmp_path).setup("validate")


def test_the_manifest_names_the_files(ilsvrc: Path, tmp_path: Path) -> None:
    names = imagenet100_classes()
    wanted = hashlib.sha256("".join(f"{name}/{name}_1.JPEG\n" for name in names).encode()).hexdigest()
    assert imagenet_module(ilsvrc).manifest("train") == wanted
    shutil.copytree(ilsvrc, tmp_path, dirs_exist_ok=True)
    (tmp_path / "train" / names[3] / f"{names[3]}_1.JPEG").rename(tmp_path / "train" / names[3] / "other.JPEG")
    module = imagenet_module(tmp_path)
    assert module.manifest("train") != wanted
    assert module.manifest("test") == wanted


def test_the_fingerprint_is_the_manifest_unless_the_counts_are_verified(ilsvrc: Path, tmp_path: Path) -> None:
    assert ImageNet100DataModule("nowhere").fingerprint is None
    fingerprint = imagenet_module(ilsvrc).fingerprint
    assert fingerprint is not None
    shutil.copytree(ilsvrc, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "train" / "n00000001")  # none of the hundred
    assert imagenet_module(tmp_path).fingerprint == fingerprint
    name = imagenet100_classes()[3]
    (tmp_path / "val" / name / f"{name}_1.JPEG").rename(tmp_path / "val" / name / "other.JPEG")
    assert imagenet_module(tmp_path).fingerprint != fingerprint


def test_facts_for_the_start_of_a_run(ilsvrc: Path) -> None:
    module = imagenet_module(ilsvrc)
    module.setup("fit")
    assert module.facts() == {
        "data": "ImageNet100",
        "training images": 100,
        "evaluation images": 100,
        "classes": 100,
        "manifest": f"train {module.manifest('train')[:16]}, val {module.manifest('test')[:16]}",
    }


def test_real_photographs() -> None:
    variable = "RECTIFIED_LPJEPA_SAMPLE_IMAGES"
    if variable not in os.environ:
        pytest.skip(f"{variable} does not name a folder <wnid>/*.JPEG of real ILSVRC photographs")

    class SampleDataModule(ImageNet100DataModule):
        _folders = {"train": ".", "test": "."}  # noqa: RUF012

    module = SampleDataModule(os.environ[variable], verify_counts=False, num_workers=0, batch_size=16)
    assert isinstance(module, ImageFolderDataModule)
    views = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    assert views.images.shape == (2, 16, 3, 224, 224)
    assert torch.isfinite(views.images).all()
    assert views.images.std() > 0.1
    evaluated = module.on_after_batch_transfer(next(iter(module.val_dataloader())), 0)
    assert evaluated.images.shape == (100, 3, 224, 224)
    assert evaluated.labels.tolist() == list(range(100))
