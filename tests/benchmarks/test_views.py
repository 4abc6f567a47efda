"""The benchmark of the views: both sides have the same recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from rectified_lpjepa.benchmarks import views as benchmark
from rectified_lpjepa.benchmarks.command import benchmark as command
from rectified_lpjepa.benchmarks.torchvision_recipe import torchvision_recipe
from rectified_lpjepa.data import Augmentation


def test_tiles_are_pieces_of_the_photographs() -> None:
    tiles = benchmark.photograph_tiles()
    first, second = load_sample_images().images
    assert tiles.shape == (2 * 13 * 20, 32, 32, 3)
    assert np.array_equal(tiles[21], first[32:64, 32:64])
    assert np.array_equal(tiles[260], second[:32, :32])


def test_the_baseline_has_our_recipe() -> None:
    """Over many draws both sides have the same mean image: no operation is missing on either side."""
    image = benchmark.photograph_tiles()[150]
    transform = torchvision_recipe(Augmentation(), 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = torch.stack([transform(Image.fromarray(image)) for _ in range(1500)])
    ours = (
        benchmark.BatchedViews(np.broadcast_to(image, (750, 32, 32, 3)), 750, torch.device("cpu")).make().flatten(0, 1)
    )
    for statistic in (torch.mean, torch.std):
        a, b = (statistic(views.flatten(2), dim=(0, 2)) for views in (theirs, ours))
        torch.testing.assert_close(a, b, rtol=0, atol=0.02)
    assert theirs.shape == ours.shape == (1500, 3, 32, 32)


def test_a_short_run_restores_the_threads_and_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    threads = torch.get_num_threads()
    command(["views", "--batch_size=4", "--repeats=1", "--device=cpu", f"--out={tmp_path}"])
    assert torch.get_num_threads() == threads
    assert "one core" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "views-cpu.json").read_text())["rows"]
    assert row["batch"] == 4
    ratio = row["ours images/s"]["median"] / row["baseline images/s"]["median"]
    assert row["ours / baseline"]["median"] == pytest.approx(ratio)


def test_files_with_other_images_and_too_large_batches_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", x_train=np.zeros((4, 28, 28), np.uint8))
    with pytest.raises(ValueError, match=r"x_train is uint8 \(4, 28, 28\). Expected uint8 \(n, 32, 32, 3\)"):
        benchmark.read_images(str(tmp_path / "wrong.npz"))
    np.savez(tmp_path / "few.npz", x_train=np.zeros((4, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="4 images, too few for a batch of 256"):
        benchmark.views(str(tmp_path / "few.npz"), out=str(tmp_path))
