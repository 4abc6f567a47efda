"""The benchmark of the readers of images: which files it takes, and that its sides read alike."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from rectified_lpjepa.benchmarks import reader
from rectified_lpjepa.benchmarks.command import benchmark


def rows_of(out: Path) -> list[dict]:
    return json.loads((out / "reader-cpu.json").read_text())["rows"]


def test_files_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data" / "flower"
    folder.mkdir(parents=True)
    for index in range(2):
        Image.fromarray(load_sample_images().images[index]).save(folder / f"{index}.JPEG")
    threads = torch.get_num_threads()
    benchmark(["reader", "--data", str(tmp_path / "data"), "--repeats", "1", "--out", str(tmp_path)])
    assert torch.get_num_threads() == threads
    content = json.loads((tmp_path / "reader-cpu.json").read_text())
    assert content["threads"] == 1
    assert content["baseline"].endswith(f"Images: {tmp_path / 'data'}")
    kinds = ["as stored", "longest side 320", "enlarged 4 ×"]
    sides = ["baseline", "reader", "full decoding", "reader + colour"]
    assert [(row["images"], row["side"]) for row in content["rows"]] == [
        (kind, side) for kind in kinds for side in sides
    ]
    for row in content["rows"]:
        assert row["files"] == 2
        assert row["images/s"]["median"] > 0
        assert row["side"] != "baseline" or row["× baseline"]["median"] == 1
    printed = capsys.readouterr()
    assert "reader + colour" in printed.out
    assert "verified" not in printed.out + printed.err


def test_a_sample_of_many_files_is_evenly_spaced(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / "data" / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(load_sample_images().images[0][:40, : 40 + number]).save(
            tmp_path / "data" / f"{number % 3}" / f"{number}.JPEG"
        )
    (tmp_path / "data" / "notes.txt").write_text("no image")
    chosen = reader._evenly_spaced(reader._jpeg_files(str(tmp_path / "data")), 3)
    assert [file.name for file in chosen] == ["0.JPEG", "1.JPEG", "2.JPEG"]
    benchmark(["reader", "--data", str(tmp_path / "data"), "--images=3", "--repeats=1", "--out", str(tmp_path)])
    assert [row["files"] for row in rows_of(tmp_path)] == [3] * 12


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`--data .*missing`, but there is no such folder"):
        reader.reader(data=str(tmp_path / "missing"))
    with pytest.raises(ValueError, match=r"`--data .*`, but no file in it ends in .jpg"):
        reader.reader(data=str(tmp_path))
    with pytest.raises(ValueError, match="`--images 0`"):
        reader.reader(images=0)


def test_photographs_of_scikit_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reader, "_SHAPES", ((50, 40),))
    benchmark(["reader", "--repeats", "1", "--out", str(tmp_path)])
    assert [row["files"] for row in rows_of(tmp_path)] == [2] * 12
    assert "Images: scikit-learn's two photographs" in capsys.readouterr().out


def test_the_sides_read_alike(tmp_path: Path) -> None:
    """Where no JPEG is large enough, scaled decoding is full decoding; where one is, it is another way."""
    photograph = Image.fromarray(load_sample_images().images[0])
    labels = torch.zeros(1, dtype=torch.int64)
    for scale in (1, 4):
        photograph.resize((scale * 640, scale * 427)).save(tmp_path / "a.JPEG")
        parameters = reader.Augmentation(crop_scale=(0.5, 0.5)).draw(2, 1, generator=torch.Generator().manual_seed(0))
        ours, full = (
            reader.read_views(side(tmp_path, ["a.JPEG"], labels, reader.SIDE), parameters)
            for side in (reader.FolderImages, reader.FullDecoding)
        )
        assert torch.equal(ours, full) == (scale == 1)
        # Boxes are moved, too, by up to half a pixel of the scaled image.
        assert (ours.int() - full.int()).abs().double().mean() < 6
