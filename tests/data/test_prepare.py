"""``rectified-lpjepa prepare``: what it writes, how it goes on, what it refuses, and what a run then is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from rectified_lpjepa.data import ImageFolderDataModule, ImageNet100DataModule
from rectified_lpjepa.data import prepare as prepare_module
from rectified_lpjepa.data.imagenet100 import imagenet100_classes
from rectified_lpjepa.data.prepare import prepare
from rectified_lpjepa.main import main

SHAPES = ((160, 120), (120, 160), (60, 50), (150, 200))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes of four JPEGs (one of them small), a PNG in a subfolder."""
    root = tmp_path / "source"
    photograph = Image.fromarray(load_sample_images().images[0])
    for split in ("train", "val"):
        for number, name in enumerate(("ant", "bee")):
            folder = root / split / name
            (folder / "deeper").mkdir(parents=True)
            for index, shape in enumerate(SHAPES):
                corner = photograph.crop((30 * index, 40 * number, 30 * index + 400, 40 * number + 300))
                corner.resize(shape).save(folder / f"{index}.JPEG")
            photograph.resize((90, 140)).save(folder / "deeper" / "0.png")
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def shrink(source: Path, out: Path, **options: Any) -> None:
    prepare(str(source), str(out), **({"longest": 80, "num_workers": 2} | options))


def files_of(root: Path) -> dict[str, Path]:
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*.*")) if path.name[0] != "."}


def record_of(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "prepared.json").read_text())
    return record


@pytest.mark.parametrize(
    ("option", "sizes"),
    [
        ("longest", [(80, 60), (60, 80), (60, 50), (60, 80), (51, 80)]),
        ("shortest", [(107, 80), (80, 107), (60, 50), (80, 107), (80, 124)]),
    ],
)
def test_every_image_is_shrunk_or_copied(
    source: Path, out: Path, option: str, sizes: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(str(source), str(out), **{option: 80}, num_workers=1)
    assert "10 images in train, 10 images in val (16 shrunk, 4 copied), all verified" in capsys.readouterr().out
    old, new = files_of(source), files_of(out)
    assert set(new) == set(old) | {"prepared.json"}
    for name, size in zip(("0.JPEG", "1.JPEG", "2.JPEG", "3.JPEG", "deeper/0.png"), sizes, strict=True):
        path = f"val/bee/{name}"
        with Image.open(new[path]) as image, Image.open(old[path]) as original:
            assert image.size == size
            assert image.format == original.format
            wanted = original.resize(size, Image.Resampling.BICUBIC)
            difference = np.abs(np.asarray(image).astype(int) - np.asarray(wanted))
        assert difference.mean() < (3 if image.format == "JPEG" else 1e-9)
        assert (new[path].read_bytes() == old[path].read_bytes()) == (name == "2.JPEG")


def test_the_record_says_how_and_what(source: Path, out: Path) -> None:
    shrink(source, out, quality=90)
    paths = sorted(set(files_of(out)) - {"prepared.json"})
    lines = "".join(f"{hashlib.sha256((out / path).read_bytes()).hexdigest()}  {path}\n" for path in paths)
    settings = {"source": str(source), "longest": 80, "shortest": None, "quality": 90, "classes": None}
    sha256 = hashlib.sha256(lines.encode()).hexdigest()
    assert record_of(out) == {"settings": settings, "counts": {"train": 10, "val": 10}, "sha256": sha256}


def test_quality_is_jpegs(source: Path, out: Path, tmp_path: Path) -> None:
    shrink(source, out)
    shrink(source, tmp_path / "coarse", quality=30)
    for name in ("0.JPEG", "deeper/0.png"):
        fine, coarse = ((root / "train" / "ant" / name).stat().st_size for root in (out, tmp_path / "coarse"))
        assert fine > 2 * coarse if name == "0.JPEG" else fine == coarse


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_tiff_is_shrunk_however_it_is_compressed(source: Path, out: Path, compression: str | None) -> None:
    with Image.open(source / "train" / "ant" / "0.JPEG") as image:
        image.save(source / "train" / "ant" / "more.tif", compression=compression)
    shrink(source, out)
    with Image.open(out / "train" / "ant" / "more.tif") as image:
        assert (image.format, image.size) == ("TIFF", (80, 60))


def test_done_files_are_kept_and_damaged_ones_made_anew(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shrink(source, out)
    first = record_of(out)
    damaged = {
        "train/ant/0.JPEG": lambda path: path.write_bytes(path.read_bytes()[:500]),
        "train/ant/1.JPEG": lambda path: Image.open(path).resize((30, 40)).save(path),
        "train/bee/2.JPEG": lambda path: Image.open(path).save(path, quality=20),  # not the copy that it should be
        "val/ant/3.JPEG": Path.unlink,
    }
    for path, damage in damaged.items():
        damage(out / path)
    (out / "val" / "bee" / ".0.JPEG.tmp").write_bytes(b"half of a file")
    times = {path: file.stat().st_mtime_ns for path, file in files_of(out).items() if path not in damaged}
    capsys.readouterr()
    shrink(source, out)
    printed = capsys.readouterr().out
    assert "16 done before" in printed
    assert "3 shrunk" in printed
    assert "1 copied" in printed
    assert record_of(out) == first
    assert {path: file.stat().st_mtime_ns for path, file in files_of(out).items() if path in times} | {
        "prepared.json": times["prepared.json"]
    } == times


def test_other_settings_are_refused(source: Path, out: Path) -> None:
    shrink(source, out)
    before = record_of(out)
    with pytest.raises(ValueError, match=r"longest: 80 → None\n  shortest: None → 60\n  quality: 95 → 90\n.*another"):
        shrink(source, out, longest=None, shortest=60, quality=90)
    assert record_of(out) == before


def test_folders_that_hold_something_else_are_refused(source: Path, out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files that this command has not made"):
        shrink(source, out)
    for folder in (source, source / "small", source.parent):
        with pytest.raises(ValueError, match="must lie beside each other"):
            shrink(source, folder)
    assert list(out.iterdir()) == [out / "notes.txt"]


@pytest.mark.parametrize("options", [{"longest": None}, {"shortest": 50}])
def test_exactly_one_side_is_given(source: Path, out: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Give exactly one of them, in pixels"):
        shrink(source, out, **options)


@pytest.mark.parametrize("options", [{"longest": 0}, {"quality": 101}, {"num_workers": 0}])
def test_options_out_of_range(source: Path, out: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is (0|101)\. It must lie between 1 and"):
        shrink(source, out, **options)
    assert not out.exists()


def test_images_that_cannot_be_decoded_are_all_reported(source: Path, out: Path) -> None:
    large, small = source / "train" / "ant" / "0.JPEG", source / "val" / "bee" / "2.JPEG"
    whole = {path: path.read_bytes() for path in (large, small)}
    for path, content in whole.items():
        path.write_bytes(content[:700])
    deep = source / "val" / "ant" / "deep.png"
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(deep)
    with pytest.raises(SystemExit, match=r"3 of 21 images are not prepared") as stopped:
        shrink(source, out)
    for path in (large, small, deep):
        assert str(path) in str(stopped.value)
    assert set(files_of(source)) - set(files_of(out)) == {"train/ant/0.JPEG", "val/bee/2.JPEG", "val/ant/deep.png"}
    with pytest.raises(ValueError, match=r"out is not complete.*[Rr]un the same command again"):
        ImageFolderDataModule(str(out)).setup("fit")
    for path, content in whole.items():
        path.write_bytes(content)
    deep.unlink()
    shrink(source, out)
    assert record_of(out)["counts"] == {"train": 10, "val": 10}


def test_surplus_images_are_named(source: Path, out: Path) -> None:
    shrink(source, out)
    shutil.copy(out / "val" / "bee" / "0.JPEG", out / "val" / "bee" / "9.JPEG")
    with pytest.raises(ValueError, match=r"1 image\(s\) that .* does not have, such as val/bee/9\.JPEG"):
        shrink(source, out)
    assert record_of(out)["sha256"] is None


def test_a_folder_that_cannot_be_written_is_no_damaged_image(source: Path, out: Path) -> None:
    shrink(source, out)
    shutil.rmtree(out / "val")
    (out / "val").write_text("no folder")
    with pytest.raises(ValueError, match=r"Writing to .*out failed .*Not a directory.*make room on the disk"):
        shrink(source, out)


# ------------------------------------------------------------------------------------------------ stopping and going on


def test_ctrl_c_keeps_what_is_done(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(results: Any, **options: Any) -> Any:
        yield next(results)
        raise KeyboardInterrupt

    arguments = ["--source", str(source), "--out", str(out), "--longest", "80", "--num_workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "tqdm", stopped)
        with pytest.raises(SystemExit) as stop:
            main(["prepare", *arguments])
    assert stop.value.code == 130
    assert "stopped; what is done is kept, and the same command goes on" in capsys.readouterr().err
    done = {path: file.stat().st_mtime_ns for path, file in files_of(out).items() if path != "prepared.json"}
    assert done
    monkeypatch.setattr(sys, "argv", ["rectified-lpjepa"])
    main(["prepare", *arguments])
    assert f"{len(done)} done before" in capsys.readouterr().out
    assert {path: (out / path).stat().st_mtime_ns for path in done} == done


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX signals")
def test_a_killed_command_leaves_no_processes_and_goes_on(source: Path, out: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    for index in range(60):
        Image.fromarray(noise).save(source / "train" / "bee" / f"noise{index}.JPEG")
    call = f"from rectified_lpjepa.data.prepare import prepare; prepare({str(source)!r}, {str(out)!r}, 80)"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", call], stdout=subprocess.PIPE, stderr=log)
        while not (out / "train" / "bee").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)  # the end of its output: all that could write to it have ended
    assert record_of(out)["sha256"] is None
    shrink(source, out)
    assert record_of(out)["counts"] == {"train": 70, "val": 10}


# ------------------------------------------------------------------------------------------------- the data it makes


def test_a_prepared_folder_is_other_data_than_its_source(source: Path, out: Path, tmp_path: Path) -> None:
    shrink(source, out)
    shrink(source, tmp_path / "again")
    shrink(source, tmp_path / "smaller", longest=70)
    modules = [ImageFolderDataModule(str(root)) for root in (source, out, tmp_path / "again", tmp_path / "smaller")]
    original, prepared, again, smaller = (module.fingerprint for module in modules)
    assert prepared == again
    assert len({original, prepared, smaller}) == 3
    assert modules[0].manifest("train") == modules[1].manifest("train")
    modules[1].setup("fit")
    assert modules[1].facts()["prepared"] == f"longest side 80, quality 95, {record_of(out)['sha256'][:16]}"
    modules[0].setup("fit")
    assert "prepared" not in modules[0].facts()


def test_imagenet_100_alone(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    for split in ("train", "val"):
        for number, name in enumerate([*imagenet100_classes(), "n00000001"]):
            (source / split / name).mkdir(parents=True)
            Image.new("RGB", (40, 36), (number, 2 * number, 255 - number)).save(source / split / name / "1.JPEG")
    with pytest.raises(ValueError, match=r"100 images of the ImageNet-100 classes, expected 126,689"):
        shrink(source, out, longest=20, classes="imagenet100")
    assert not out.exists()
    monkeypatch.setattr(ImageNet100DataModule, "counts", {"train": 100, "test": 100})
    shrink(source, out, longest=20, classes="imagenet100")
    assert sorted(path.name for path in (out / "val").iterdir()) == imagenet100_classes()
    module = ImageNet100DataModule(str(out), num_workers=0)
    module.setup("fit")
    assert ImageNet100DataModule(str(source)).fingerprint is None
    assert module.fingerprint == record_of(out)["sha256"][:16]
    assert str(module.facts()["prepared"]).startswith("longest side 20, quality 95")
    loose = ImageNet100DataModule(str(out), verify_counts=False).fingerprint
    assert loose not in (module.fingerprint, ImageNet100DataModule(str(source), verify_counts=False).fingerprint)
