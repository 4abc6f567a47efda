"""Data sets that are made on the spot can be opened, and have all that is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from rectified_lpjepa.data import NpzDataModule
from rectified_lpjepa.experiment.datasets import DATASETS, make_datasets


@pytest.mark.parametrize(("name", "classes", "samples"), [("photo_patches", 2, 520), ("turned_digits", 10, 1797)])
def test_a_data_set_is_made_once_and_opens(name: str, classes: int, samples: int, tmp_path: Path) -> None:
    (path,) = make_datasets([name], tmp_path).values()
    data = NpzDataModule(path, image_size=16)
    sizes = [len(data.load(split).labels) for split in ("train", "test")]
    assert data.num_classes == classes
    assert sum(sizes) == samples
    assert sizes[1] == pytest.approx(samples / 5, abs=1)
    written = Path(path).stat().st_mtime_ns
    make_datasets([name], tmp_path)
    assert Path(path).stat().st_mtime_ns == written


def test_patches_are_parts_of_their_photograph() -> None:
    images, labels = DATASETS["photo_patches"]()
    temple, flower = load_sample_images().images
    assert np.array_equal(images[21], temple[32:64, 32:64])  # 20 in a row
    assert np.array_equal(images[260], flower[:32, :32])
    assert labels.tolist() == [0] * 260 + [1] * 260


def test_digits_are_turned_counterclockwise() -> None:
    images, labels = DATASETS["turned_digits"]()
    digits = load_digits()
    assert np.array_equal(images[5], np.rint(digits.images[5].T[::-1] * 255 / 16))
    assert np.array_equal(labels, digits.target)


def test_an_unknown_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no data set 'photos'.*\n.*did you mean photo_patches"):
        make_datasets(["photos"], tmp_path)
