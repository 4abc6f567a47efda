"""The sides of the step benchmark: the bare loop trains as fit does, the published one trains at all."""

from __future__ import annotations

import copy
import json
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from tiny_jepa import BATCH, digits, quiet_trainer, tiny_model
from torch import nn

from rectified_lpjepa.benchmarks import step as benchmark
from rectified_lpjepa.benchmarks.loops import BareLoop, PublishedLoop
from rectified_lpjepa.benchmarks.torchvision_recipe import torchvision_recipe
from rectified_lpjepa.data import Augmentation
from rectified_lpjepa.objectives import Axes, Directions, RDMReg
from rectified_lpjepa.recipes import recipe_names

CPU = torch.device("cpu")
STEPS = 3


@pytest.mark.parametrize("view_passes", ["each", "joint"])
def test_the_bare_loop_trains_to_the_same_parameters_as_fit(view_passes: str, tmp_path: Path) -> None:
    model, data = tiny_model(view_passes=view_passes), digits()
    other = copy.deepcopy(model)
    quiet_trainer(tmp_path, limit_train_batches=STEPS).fit(model, data)
    BareLoop(other, data, "32-true", STEPS, STEPS, CPU).run(STEPS)
    start = tiny_model(view_passes=view_passes).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
        assert value.dtype is torch.int64 or not torch.equal(value, start[name]), name


def test_the_published_loop_trains() -> None:
    model, data = tiny_model(), digits()
    before = copy.deepcopy(model.state_dict())
    # In bfloat16 PyTorch's convolutions of 1 × 1 maps leave NaN in a gradient on some CPUs; 1 × 1 kernels are left.
    loop = PublishedLoop(model, data, "32-true", 100, 10, CPU, workers=0)
    assert loop.run(2) > 0
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter, before[name]), name


def test_the_published_loop_refuses_what_it_would_compute_otherwise() -> None:
    with pytest.raises(ValueError, match="rectifier relu alone, the model has rep_relu"):
        PublishedLoop(tiny_model(rectifier="rep_relu"), digits(), "32-true", 100, 10, CPU, workers=0)
    for objective, told in (
        (RDMReg(directions=Directions(kind="eigen_bottom_half")), "the kind eigen_bottom_half and axes of weight 0"),
        (RDMReg(axes=Axes(weight=0.5)), "the kind random and axes of weight 0.5"),
    ):
        with pytest.raises(ValueError, match=told):
            PublishedLoop(tiny_model(objective=objective), digits(), "32-true", 100, 10, CPU, workers=0)
    data = digits()
    data.views = 3
    with pytest.raises(ValueError, match="2 views of each image, the data have 3"):
        PublishedLoop(tiny_model(), data, "32-true", 100, 10, CPU, workers=0)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_bare_loops_model_is_compiled_as_fits(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # The graph as it is takes no compiler; PyTorch 2.11 warns where it imports its own.
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    model = tiny_model(compile=compiled)
    duplicate = benchmark._compiled_as(model, copy.deepcopy(model))
    for part in (duplicate.backbone, duplicate.projector):
        assert (part._compiled_call_impl is not None) == compiled


def test_what_cannot_be_timed_is_refused() -> None:
    with pytest.raises(ValueError, match="repeats is 0"):
        benchmark.step(repeats=0)


def test_what_is_timed_by_default_is_a_recipe() -> None:
    assert set(benchmark.RECIPES.values()) <= set(recipe_names())


def test_a_recipe_without_chance_is_the_normalised_image() -> None:
    still = Augmentation(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0, jitter=0, grayscale=0, solarize=0)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    expected = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(
        torchvision_recipe(still, 32, mean.tolist(), std.tolist())(Image.fromarray(image)), expected
    )


def test_tiles_are_parts_of_photographs(tmp_path: Path) -> None:
    with np.load(benchmark._write_tiles(tmp_path / "tiles.npz")) as arrays:
        assert arrays["x_train"].shape[1:] == (32, 32, 3)
        assert len(arrays["x_train"]) == len(arrays["y_train"]) > 5000
        np.testing.assert_array_equal(arrays["x_train"][0], load_sample_images().images[0][:32, :32])


CONFIG = f"""
trainer: {{log_every_n_steps: 10}}
model:
  objective: {{class_path: RDMReg, init_args: {{directions: {{num: 8}}}}}}
  backbone: {{name: resnet18, kwargs: {{layers: [1, 1, 1, 1], channels: [8, 8, 8, 8]}}}}
  projector: {{hidden_dim: 8, out_dim: 8}}
  optimizer: {{name: adamw}}
data: {{class_path: DigitsDataModule, init_args: {{batch_size: {BATCH}, num_workers: 0}}}}
"""


def test_the_report_has_all_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "_help", lambda: None)  # both start a process
    monkeypatch.setattr(benchmark, "_imports", lambda: None)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    split = {"x_train": images, "y_train": np.arange(300) % 5, "x_test": images[:5], "y_test": np.arange(5)}
    np.savez(tmp_path / "set.npz", **split)
    files = {"config": str(tmp_path / "tiny.yaml"), "data": str(tmp_path / "set.npz"), "out": str(tmp_path)}
    benchmark.step(**files, repeats=2, device="cpu")
    report = json.loads((tmp_path / "step-cpu.json").read_text())
    rows = {row["what"].strip(): row for row in report["rows"]}
    assert list(rows) == [*map(str.strip, benchmark.LABELS.values()), *list(rows)[-2:]]
    for row in rows.values():
        assert row["ms"]["median"] > 0
    assert rows["fit"]["to"] == "bare loop"
    assert rows["fit"]["images/s"]["median"] == pytest.approx(1000 * BATCH / rows["fit"]["ms"]["median"], rel=0.3)
    assert "bottleneck is" in report["conclusion"]
    assert report["conclusion"] in capsys.readouterr().out
