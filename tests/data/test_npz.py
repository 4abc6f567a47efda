"""Data in an .npz file: what is read, what tells one content from another, and what is refused."""

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bomb import Bomb

from rectified_lpjepa.data import NpzDataModule
from rectified_lpjepa.data.batches import UNLABELLED


def arrays(shape: tuple[int, ...] = (8, 8, 3), **changes: Any) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    content = {
        "x_train": generator.integers(0, 256, (20, *shape), dtype=np.uint8),
        "y_train": np.arange(20, dtype=np.int64) % 4,
        "x_test": generator.integers(0, 256, (6, *shape), dtype=np.uint8),
        "y_test": np.arange(6, dtype=np.int64) % 4,
    } | changes
    return {key: value for key, value in content.items() if value is not None}


def write(folder: Path, content: dict[str, np.ndarray]) -> str:
    path = folder / "data.npz"
    np.savez(path, **content)
    return str(path)


def test_arrays_are_read_channels_first(tmp_path: Path) -> None:
    content = arrays()
    module = NpzDataModule(write(tmp_path, content), batch_size=10)
    module.setup("fit")
    for split in ("train", "test"):
        images = module.images(split)
        assert images.images.dtype == torch.uint8
        assert images.images.is_contiguous()
        assert np.array_equal(images.images.numpy(), np.moveaxis(content[f"x_{split}"], -1, 1))
        assert images.labels.dtype == torch.int64
        assert images.labels.tolist() == content[f"y_{split}"].tolist()
    views = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    assert views.images.shape == (2, 10, 3, 8, 8)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1)])
def test_grey_images_have_one_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    content = arrays(shape)
    module = NpzDataModule(write(tmp_path, content))
    assert module.in_channels == 1
    assert np.array_equal(module.images("test").images.numpy(), content["x_test"].reshape(6, 1, 8, 8))


def test_facts_before_setup(tmp_path: Path) -> None:
    content = arrays()
    module = NpzDataModule(write(tmp_path, content))
    assert (module.num_classes, module.image_size, module.in_channels) == (4, 8, 3)
    pixels = content["x_train"].astype(np.float64) / 255
    assert module.mean == pytest.approx(pixels.mean((0, 1, 2)), abs=1e-12)
    assert module.std == pytest.approx(pixels.std((0, 1, 2)), abs=1e-12)
    given = NpzDataModule(module.path, mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 3.0], image_size=12, num_classes=7)
    assert (given.mean, given.std) == ([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])
    assert (given.image_size, given.num_classes) == (12, 7)


def test_images_are_not_read_for_sizes_and_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = NpzDataModule(write(tmp_path, arrays()), mean=[0.0] * 3, std=[1.0] * 3)
    keys: list[str] = []
    read = module._read
    monkeypatch.setattr(module, "_read", lambda key: keys.append(key) or read(key))
    assert (module.num_classes, module.image_size, module.in_channels, module.mean) == (4, 8, 3, [0.0] * 3)
    assert keys == ["y_train", "y_test"]


def test_labels_in_a_column_and_of_any_integer_type(tmp_path: Path) -> None:
    labels = (np.arange(20) % 3).astype(">u2").reshape(20, 1)
    module = NpzDataModule(write(tmp_path, arrays(y_train=labels, y_test=np.zeros((6, 1), np.uint8))))
    assert module.num_classes == 3
    assert module.images("train").labels.tolist() == labels.ravel().tolist()


def test_unlabelled_arrays(tmp_path: Path) -> None:
    path = write(tmp_path, arrays(y_train=None, y_test=None))
    module = NpzDataModule(path, batch_size=5)
    assert module.num_classes is None
    assert next(iter(module.train_dataloader())).labels.tolist() == [UNLABELLED] * 5
    with pytest.raises(ValueError, match=r"num_classes is 5, but .* has no labels"):
        _ = NpzDataModule(path, num_classes=5).num_classes


def test_compressed_and_fortran_ordered_arrays(tmp_path: Path) -> None:
    content = arrays()
    np.savez_compressed(tmp_path / "small.npz", **{key: np.asfortranarray(value) for key, value in content.items()})
    module = NpzDataModule(str(tmp_path / "small.npz"))
    assert np.array_equal(module.images("train").images.numpy(), np.moveaxis(content["x_train"], -1, 1))


def test_facts_for_the_start_of_a_run(tmp_path: Path) -> None:
    module = NpzDataModule(write(tmp_path, arrays()), train_samples=11)
    module.setup("fit")
    assert module.facts() == {"data": "Npz", "training images": 11, "evaluation images": 6, "classes": 4}
    unlabelled = NpzDataModule(write(tmp_path, arrays(y_train=None, y_test=None)))
    unlabelled.setup("fit")
    assert unlabelled.facts()["classes"] == "none"


def test_the_fingerprint_stays_with_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, arrays())
    fingerprint = NpzDataModule(path).fingerprint
    assert re.fullmatch("[0-9a-f]{16}", fingerprint)
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(path, tmp_path / "elsewhere" / "other.npz")
    again = dict(reversed(arrays().items()))
    np.savez_compressed(tmp_path / "compressed.npz", **again)
    for same in (moved, tmp_path / "compressed.npz"):
        module = NpzDataModule(str(same))
        monkeypatch.setattr(module, "_read", lambda key: pytest.fail(f"{key} was read"))
        assert module.fingerprint == fingerprint


def test_another_content_has_another_fingerprint(tmp_path: Path) -> None:
    pixel, label = arrays()["x_train"].copy(), arrays()["y_test"].copy()
    pixel[3, 2, 1, 0] ^= 1
    label[0] = 3
    changes: list[dict[str, Any]] = [
        {},
        {"x_train": pixel},
        {"y_test": label},
        {"y_test": arrays()["y_test"].astype(np.int32)},
        {"y_train": None, "y_test": None},
        {"extra": np.zeros(1)},
        {"x_train": arrays()["x_train"][:19], "y_train": arrays()["y_train"][:19]},
    ]
    fingerprints = {NpzDataModule(write(tmp_path, arrays(**change))).fingerprint for change in changes}
    assert len(fingerprints) == len(changes)


def test_oblong_images_need_a_size(tmp_path: Path) -> None:
    path = write(tmp_path, arrays((6, 8, 3)))
    with pytest.raises(ValueError, match=r"not square \(6 × 8 pixels\).*image_size"):
        NpzDataModule(path)
    module = NpzDataModule(path, image_size=6)
    views = module.on_after_batch_transfer(next(iter(module.val_dataloader())), 0)
    assert views.images.shape == (6, 3, 6, 6)


OBJECTS = np.array([{"code": 1}] * 20, dtype=object)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x_train": None}, ValueError, r"\['x_train'\] missing.*Expected x_train, y_train"),
        ({"y_test": None}, ValueError, r"\['y_test'\] missing"),
        ({"y_train": None, "y_test": None, "labels": np.zeros(20, int)}, ValueError, r"'labels'.*'y_train'\] missing"),
        ({"x_train": np.zeros((20, 8, 8, 3), np.float32)}, TypeError, "x_train has the type float32.*uint8"),
        ({"x_train": OBJECTS}, TypeError, "x_train has the type object"),
        ({"y_train": OBJECTS}, TypeError, "y_train has the type object.*integers"),
        ({"y_train": np.zeros(20, np.float64)}, TypeError, "y_train has the type float64"),
        ({"y_test": np.zeros(6, bool)}, TypeError, "y_test has the type bool"),
        ({"y_train": np.zeros(19, int)}, ValueError, r"y_train has the shape \(19,\), but x_train has 20 images"),
        ({"y_train": np.zeros((20, 2), int)}, ValueError, r"y_train has the shape \(20, 2\)"),
        ({"x_train": np.zeros((20, 3, 8, 8), np.uint8)}, ValueError, r"\(20, 3, 8, 8\).*channels last"),
        ({"x_train": np.zeros((20, 64), np.uint8)}, ValueError, r"shape \(20, 64\)"),
        ({"x_test": np.zeros((0, 8, 8, 3), np.uint8)}, ValueError, "n at least 1"),
        ({"x_test": np.zeros((6, 9, 9, 3), np.uint8)}, ValueError, r"x_train are \(8, 8, 3\), those of x_test \(9, 9"),
    ],
)
def test_wrong_keys_types_and_shapes(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        NpzDataModule(write(tmp_path, arrays(**changes)))
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"y_train": np.r_[-1, np.zeros(19, int)]}, {}, r"y_train\[0\] is -1, and 1 label.* outside 0 … 0"),
        ({"y_test": np.array([0, 1, 9, 3, 9, 1])}, {}, r"y_test\[2\] is 9, and 2 label.*one more than the largest"),
        ({}, {"num_classes": 3}, r"y_train\[3\] is 3.*classes is 3: correct"),
    ],
)
def test_labels_out_of_range(tmp_path: Path, changes: dict[str, Any], arguments: dict[str, int], message: str) -> None:
    path = write(tmp_path, arrays(**changes))
    with pytest.raises(ValueError, match=message):
        _ = NpzDataModule(path, **arguments).num_classes
    with pytest.raises(ValueError, match=message):
        NpzDataModule(path, **arguments).setup("fit")


def test_wrong_arguments(tmp_path: Path) -> None:
    path = write(tmp_path, arrays())
    with pytest.raises(ValueError, match="num_classes is 0"):
        NpzDataModule(path, num_classes=0)
    with pytest.raises(ValueError, match=r"mean has 1 value\(s\).*3 channel"):
        NpzDataModule(path, mean=[0.5])
    with pytest.raises(ValueError, match=r"std has 2 value\(s\)"):
        NpzDataModule(path, std=[0.5, 1.0])


def test_a_constant_channel_needs_a_std(tmp_path: Path) -> None:
    images = arrays()["x_train"].copy()
    images[..., 1] = 7
    path = write(tmp_path, arrays(x_train=images))
    with pytest.raises(ValueError, match="channel 1 of x_train is constant"):
        _ = NpzDataModule(path).std
    assert NpzDataModule(path, std=[1.0, 1.0, 1.0]).mean[1] == pytest.approx(7 / 255)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.npz") as missing:
        NpzDataModule(str(tmp_path / "none.npz"))
    assert f"numpy.savez('{tmp_path / 'none.npz'}', x_train=…, y_train=…, x_test=…, y_test=…)" in str(missing.value)
    assert "--data CIFAR100DataModule --data.download true" in str(missing.value)

    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"array\.npy cannot be read as an \.npz file"):
        NpzDataModule(str(tmp_path / "array.npy"))

    whole = Path(write(tmp_path, arrays()))
    (tmp_path / "short.npz").write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"short\.npz cannot be read"):
        NpzDataModule(str(tmp_path / "short.npz"))

    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("x_train.npy", "no array")
    with pytest.raises(ValueError, match=r"text\.npz cannot be read"):
        NpzDataModule(str(tmp_path / "text.npz"))

    structured = np.zeros(2, dtype=[("σ", "<i8")])
    with pytest.warns(UserWarning, match="format 3.0"):
        path = write(tmp_path, arrays(extra=structured))
    with pytest.raises(ValueError, match=r"extra\.npy has version"):
        NpzDataModule(path)


def test_nothing_is_unpickled_even_where_the_headers_look_right(tmp_path: Path) -> None:
    path = Path(write(tmp_path, arrays()))
    np.save(tmp_path / "bomb.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(tmp_path / "bad.npz", "w") as bad:
        bad.write(tmp_path / "bomb.npy", "x_train")  # NumPy prefers this name to the one with its ending
        for name in good.namelist():
            bad.writestr(name, good.read(name))
    with pytest.raises(ValueError, match=r"bad\.npz cannot be read"):
        NpzDataModule(str(tmp_path / "bad.npz")).setup("fit")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_content_is_noticed(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "data.npz"
    save(path, **arrays())
    module = NpzDataModule(str(path))
    content = bytearray(path.read_bytes())
    middle = len(content) // 4  # in the pixels of x_train, which come first
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.npz cannot be read"):
        module.setup("fit")
