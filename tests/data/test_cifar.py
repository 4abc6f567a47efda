"""CIFAR as torchvision stores it, and what is said of files that are missing or damaged."""

import hashlib
import pickle
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from batches_of import views_of
from bomb import Bomb

from rectified_lpjepa.data import Augmentation, CIFAR10DataModule, CIFAR100DataModule


@pytest.fixture
def cifar_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny CIFAR-100 as torchvision lays it out, with checksums to match."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    generator = np.random.default_rng(0)

    def write(name: str, content: dict[str, Any]) -> str:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    checksums = {
        name: write(
            name,
            {
                "data": generator.integers(0, 256, (count, 3072), dtype=np.uint8),
                "fine_labels": generator.integers(0, 100, count).tolist(),
            },
        )
        for name, count in (("train", 12), ("test", 6))
    }
    meta = write("meta", {"fine_label_names": [f"class {number}" for number in range(100)]})
    torchvision_class = CIFAR100DataModule._torchvision
    monkeypatch.setattr(torchvision_class, "train_list", [["train", checksums["train"]]])
    monkeypatch.setattr(torchvision_class, "test_list", [["test", checksums["test"]]])
    monkeypatch.setattr(torchvision_class, "meta", {"filename": "meta", "key": "fine_label_names", "md5": meta})
    return tmp_path


def test_cifar_is_read_as_stored(cifar_tree: Path) -> None:
    module = CIFAR100DataModule(root=str(cifar_tree), batch_size=4)
    module.prepare_data()
    module.setup("fit")
    stored = pickle.loads((cifar_tree / "cifar-100-python" / "train").read_bytes())
    images = module.images("train")
    assert images.images.dtype == torch.uint8
    # CIFAR's rows hold the red, the green and the blue plane one after the other.
    assert np.array_equal(images.images.numpy(), stored["data"].reshape(-1, 3, 32, 32))
    assert images.labels.tolist() == stored["fine_labels"]
    views = views_of(module, next(iter(module.train_dataloader())))
    assert views.images.shape == (2, 4, 3, 32, 32)
    assert len(module.images("test").labels) == 6


@pytest.mark.parametrize(
    ("kind", "classes", "mean", "std"),
    [
        (CIFAR10DataModule, 10, [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        (CIFAR100DataModule, 100, [0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    ],
)
def test_cifar_knows_its_facts_without_the_data(
    kind: type[CIFAR10DataModule], classes: int, mean: list[float], std: list[float]
) -> None:
    module = kind(root="nowhere")
    assert (module.num_classes, module.in_channels, module.image_size) == (classes, 3, 32)
    assert (module.mean, module.std) == (mean, std)
    assert module.augmentation == Augmentation()
    assert module.augmentation.blur == 0


@pytest.mark.parametrize("kind", [CIFAR10DataModule, CIFAR100DataModule])
def test_missing_cifar_names_the_command_that_gets_it(kind: type[CIFAR10DataModule], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"rectified-lpjepa fit .*--data\.download true") as error:
        kind(root=str(tmp_path)).setup("fit")
    assert str(tmp_path) in str(error.value)


def test_damaged_cifar_is_not_unpickled(cifar_tree: Path) -> None:
    (cifar_tree / "cifar-100-python" / "train").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="checksum"):
        CIFAR100DataModule(root=str(cifar_tree)).setup("fit")


def test_cifar_downloads_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        CIFAR10DataModule, "_torchvision", Mock(side_effect=lambda *args, **kwargs: calls.append((args, kwargs)))
    )
    CIFAR10DataModule(root=str(tmp_path)).prepare_data()
    assert not calls
    CIFAR10DataModule(root=str(tmp_path), download=True).prepare_data()
    assert calls == [((str(tmp_path),), {"download": True})]
