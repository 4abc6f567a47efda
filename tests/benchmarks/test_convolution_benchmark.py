"""The benchmark of convolutions: one side has PyTorch's alone, and both are in the table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from torch import nn

from rectified_lpjepa.benchmarks.command import benchmark as command
from rectified_lpjepa.benchmarks.convolution import SIDE, SMALL, plain_backbone
from rectified_lpjepa.networks.small_maps import SmallMapConv2d
from rectified_lpjepa.recipes import CONFIGS


def test_the_baseline_has_pytorchs_convolutions_alone_in_the_recipes_network() -> None:
    config = yaml.safe_load((CONFIGS / "cifar100_small.yaml").read_text())["model"]["backbone"]
    assert asdict(SMALL) == config
    kinds = {type(module) for module in plain_backbone().modules() if isinstance(module, nn.Conv2d)}
    assert kinds == {nn.Conv2d}
    assert any(isinstance(module, SmallMapConv2d) for module in SMALL.build(SIDE).modules())


def test_a_short_run_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(["convolution", "--batch_size=2", "--repeats=1", f"--out={tmp_path}"])
    assert "backbone of cifar100_small" in capsys.readouterr().out
    rows = json.loads((tmp_path / "convolution-cpu.json").read_text())["rows"]
    assert len(rows) == 3
    for row in rows:
        ratio = row["baseline ms"]["median"] / row["ours ms"]["median"]
        assert row["baseline / ours"]["median"] == pytest.approx(ratio)
