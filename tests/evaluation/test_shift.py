"""Shifted copies: what is measured on them against plain formulas, and classes matched by their names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import differential_entropy
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from subjects import PixelSubject
from torch import Tensor

from rectified_lpjepa.data import DigitsDataModule, ImageFolderDataModule, NpzDataModule, TwoViewDataModule
from rectified_lpjepa.data.batches import Split
from rectified_lpjepa.data.corruptions import corrupt
from rectified_lpjepa.data.image_ops import fit_square
from rectified_lpjepa.data.images import InMemoryImages
from rectified_lpjepa.distributions import RectifiedGeneralizedGaussian
from rectified_lpjepa.evaluation.command import make_parser
from rectified_lpjepa.evaluation.datasets import DataSource
from rectified_lpjepa.evaluation.features import FeatureSet
from rectified_lpjepa.evaluation.shift import shift

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "zebra": (1, 1, 1)}
SIZE = 4


class MixedPixels(PixelSubject):
    """A subject of any data, whose features are a fixed linear map of the pixels, so that they have a density."""

    def __init__(self, data: TwoViewDataModule, batch: int = 50, **arguments: object) -> None:
        super().__init__(**arguments)
        self.data = data
        self.batch = batch

    def batches(self, split: Split, data: TwoViewDataModule | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        data = data or self.data
        stored = data.images(split)
        for rows in data.positions(split).split(self.batch):
            images = stored.take(rows) if isinstance(stored, InMemoryImages) else stored.read_evaluation(rows)
            yield fit_square(images, data.image_size), stored.labels[rows]

    def embed(self, images: Tensor) -> FeatureSet:
        pixels = images.flatten(1)
        mixing = torch.randn(2 * [pixels.shape[1]], generator=torch.Generator().manual_seed(0))
        return super().embed(pixels @ mixing)

    def open(self, name: str) -> TwoViewDataModule:
        return DataSource().open(name, image_size=self.data.image_size)


def coloured(folder: Path, name: str, number: int, seed: int) -> None:
    """Write images that are bright in the channels of a class, and noisy."""
    (folder / name).mkdir(parents=True)
    random = np.random.default_rng(seed)
    for index in range(number):
        pixels = random.integers(0, 120, (SIZE, SIZE, 3)) + 100 * np.array(COLOURS[name])
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")


@pytest.fixture
def own(tmp_path: Path) -> ImageFolderDataModule:
    for label, name in enumerate(("red", "green", "blue")):
        coloured(tmp_path / "own" / "train", name, 20, seed=label)
        coloured(tmp_path / "own" / "val", name, 10, seed=10 + label)
    return ImageFolderDataModule(str(tmp_path / "own"), image_size=SIZE, num_workers=0)


def plain_values(z: NDArray[np.float64]) -> dict[str, float]:
    entropy = 0.0
    for column in z.T:
        share = (column != 0).mean()
        if 0 < share < 1:
            entropy -= share * np.log(share) + (1 - share) * np.log(1 - share)
        if (column != 0).sum() >= 5:  # of fewer values none is estimated
            entropy += share * differential_entropy(column[column != 0], method="ebrahimi")
    norms = np.linalg.norm(z, axis=1)
    ratio = np.divide(np.abs(z).sum(axis=1), norms, out=np.zeros(len(z)), where=norms > 0)
    return {"l0": float((z != 0).mean()), "l1": float((ratio**2).mean() / z.shape[1]), "entropy": entropy}


def test_what_is_measured_agrees_with_plain_formulas() -> None:
    subject = MixedPixels(DigitsDataModule(image_size=8))
    found = shift(subject, corruptions=["gaussian_noise"], severities=[2, 5])
    images, labels = (torch.cat(parts) for parts in zip(*subject.batches("test"), strict=True))
    train = subject.features("train")
    for severity in (2, 5):
        noisy = subject.embed(corrupt(images, range(len(images)), "gaussian_noise", severity))
        for kind, z in noisy.kinds().items():
            where = f"{kind}/gaussian_noise_{severity}"
            for quantity, value in plain_values(z.double().numpy()).items():
                assert found.metrics[f"{where}/{quantity}"] == pytest.approx(value), quantity
            scaler = StandardScaler().fit(train.kinds()[kind].double())
            regression = LogisticRegression(C=0.1, tol=1e-6, max_iter=2000)
            regression.fit(scaler.transform(train.kinds()[kind].double()), train.labels)
            top1 = regression.score(scaler.transform(z.double()), labels)
            assert found.metrics[f"{where}/top1"] == pytest.approx(top1, abs=0.015)
    assert found.metrics["encoder/clean/top1"] > 0.9
    for quantity in ("top1", "l0", "l1", "entropy"):
        mean = sum(found.metrics[f"projector/gaussian_noise_{severity}/{quantity}"] for severity in (2, 5)) / 2
        assert found.metrics[f"projector/gaussian_noise/{quantity}"] == pytest.approx(mean)
        assert found.metrics[f"projector/corrupted/{quantity}"] == pytest.approx(mean)


def test_all_corruptions_do_not_depend_on_the_size_of_batches() -> None:
    one, other = (shift(MixedPixels(DigitsDataModule(image_size=8), batch), severities=[3]) for batch in (64, 361))
    assert one.metrics.keys() == other.metrics.keys()
    for name, value in one.metrics.items():
        # Products of matrices round differently in batches of another size, and an entropy looks at spacings.
        assert value == pytest.approx(other.metrics[name], abs=0.01, rel=0.02), name
    noise = [name for name in one.metrics if "noise" in name]
    assert noise
    assert all(one.metrics[name] == other.metrics[name] for name in noise)


def test_targets_stand_beside_the_clean_features() -> None:
    law = RectifiedGeneralizedGaussian(2.0, torch.tensor(0.0), torch.tensor(1.0))
    found = shift(MixedPixels(DigitsDataModule(image_size=8), law=law), corruptions=[])
    assert found.metrics["projector/clean/l0_target"] == pytest.approx(0.5)
    assert found.metrics["projector/clean/entropy_target"] == pytest.approx(64 * 1.0560, abs=0.01)


def test_classes_are_matched_by_name(own: ImageFolderDataModule, tmp_path: Path) -> None:
    assert own.classes == ["blue", "green", "red"]
    # Label 0 is green there, 1 red, and 2 unknown here; nothing is blue.
    for name, number in (("green", 8), ("red", 4), ("zebra", 5)):
        coloured(tmp_path / "renditions", name, number, seed=30)
    subject = MixedPixels(own)
    found = shift(subject, [str(tmp_path / "renditions")], corruptions=[])
    assert found.protocol["sets"] == {
        "renditions": {"samples": 17, "classes_in_common": 2, "unknown_classes": ["zebra"]}
    }
    assert found.metrics["encoder/renditions/top1"] == 1.0
    assert found.metrics["encoder/renditions/top1_clean"] == 1.0
    known = subject.features("test", subject.open(str(tmp_path / "renditions"))).rows(torch.arange(12))
    for quantity, value in plain_values(known.encoder.double().numpy()).items():
        assert found.metrics[f"encoder/renditions/{quantity}"] == pytest.approx(value), quantity


def test_classes_of_other_names_are_matched_by_a_mapping(own: ImageFolderDataModule, tmp_path: Path) -> None:
    """Two folders are of one class, one has the same name, and one is of a class that the own data lack."""
    names = {"scarlet": "red", "crimson": "red", "green": "green", "stripes": "striped horse"}
    (tmp_path / "objects").mkdir()
    for number, (folder, colour) in enumerate(zip(names, ("red", "red", "green", "zebra"), strict=True)):
        coloured(tmp_path, colour, 4 + number, seed=50 + number)
        (tmp_path / colour).rename(tmp_path / "objects" / folder)
    del names["green"]
    subject = MixedPixels(own)
    found = shift(subject, [str(tmp_path / "objects")], corruptions=[], class_names=names)
    assert found.protocol["sets"]["objects"] == {
        "samples": 22,
        "classes_in_common": 2,
        "unknown_classes": ["stripes"],
    }
    assert found.metrics["encoder/objects/top1"] == found.metrics["encoder/objects/top1_clean"] == 1.0
    # The command line takes the content of a JSON file.
    parsed = make_parser("shift").parse_args(
        ["--class_names", json.dumps(names, indent=1), "--checkpoint", "last.ckpt"]
    )
    assert parsed.class_names == names
    without = shift(subject, [str(tmp_path / "objects")], corruptions=[])
    assert without.protocol["sets"]["objects"]["unknown_classes"] == ["crimson", "scarlet", "stripes"]
    with pytest.raises(ValueError, match="`class_names` speaks of 'scarlett', and no folder of objects has this name"):
        shift(subject, [str(tmp_path / "objects")], corruptions=[], class_names={"scarlett": "red"})


def test_the_probe_chooses_among_the_classes_in_common(own: ImageFolderDataModule, tmp_path: Path) -> None:
    """Blue images under the name of red: without blue to choose, red or green is taken."""
    for name in ("green", "red"):
        coloured(tmp_path / "mixed", name, 6, seed=40)
    for index in range(6):
        pixels = np.full((SIZE, SIZE, 3), (60, 0, 255), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mixed" / "red" / f"blue{index}.png")
    found = shift(MixedPixels(own), [str(tmp_path / "mixed")], corruptions=[])
    assert found.metrics["encoder/mixed/top1"] == 1.0


def test_an_npz_file_has_the_same_labels(tmp_path: Path) -> None:
    digits = DigitsDataModule(image_size=8)
    stored = digits.images("test")
    assert isinstance(stored, InMemoryImages)
    arrays = {"x_train": stored.images.numpy()[:, 0], "y_train": stored.labels.numpy()}
    arrays |= {"x_test": arrays["x_train"] // 2, "y_test": arrays["y_train"]}
    np.savez(tmp_path / "dark.npz", **arrays)
    found = shift(MixedPixels(digits), [str(tmp_path / "dark.npz")], corruptions=[])
    assert found.metrics["encoder/dark/top1_clean"] == found.metrics["encoder/clean/top1"]
    assert 0.1 < found.metrics["encoder/dark/top1"] < found.metrics["encoder/clean/top1"]

    few = {name: values[stored.labels.numpy() < 5] for name, values in arrays.items()}
    np.savez(tmp_path / "few.npz", **few)
    with pytest.raises(ValueError, match=r"few has 5 classes and the subject's data have 10"):
        shift(MixedPixels(digits), [str(tmp_path / "few.npz")], corruptions=[])


def test_classes_that_cannot_be_matched_are_refused(own: ImageFolderDataModule, tmp_path: Path) -> None:
    coloured(tmp_path / "stripes", "zebra", 3, seed=0)
    with pytest.raises(ValueError, match=r"stripes and the subject's data have no class in common.*'zebra' there"):
        shift(MixedPixels(own), [str(tmp_path / "stripes")], corruptions=[])
    with pytest.raises(ValueError, match="those of the subject's data have no names"):
        shift(MixedPixels(DigitsDataModule(image_size=8)), [str(tmp_path / "stripes")], corruptions=[])
    (tmp_path / "stripes" / "zebra").rename(tmp_path / "loose")
    with pytest.raises(ValueError, match="loose has no labels"):
        shift(MixedPixels(own), [str(tmp_path / "loose")], corruptions=[])


def test_without_labels_there_is_no_accuracy(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("plain", "shifted"):
        images = random.integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", x_train=images, x_test=images)
    subject = MixedPixels(NpzDataModule(str(tmp_path / "plain.npz")))
    found = shift(subject, [str(tmp_path / "shifted.npz")], ["contrast"], [1])
    assert {name.split("/")[2] for name in found.metrics} == {"l0", "l1", "entropy"}
    assert "encoder/shifted/l0" in found.metrics
    assert found.protocol["linear_probe"].startswith("left out")


def test_unknown_corruptions_and_names_that_are_taken_are_refused() -> None:
    subject = MixedPixels(DigitsDataModule(image_size=8))
    with pytest.raises(ValueError, match="no corruption 'fog'"):
        shift(subject, corruptions=["fog"])
    with pytest.raises(ValueError, match="severity of a corruption is 6"):
        shift(subject, severities=[6])
    with pytest.raises(ValueError, match="'contrast_2' is that of two of them"):
        shift(subject, ["data/contrast_2.npz"])
