"""The sides of the loss benchmark compute the same, and its figures are stored."""

import json

import pytest
import torch

from rectified_lpjepa.benchmarks import loss as benchmark
from rectified_lpjepa.benchmarks.loss import Inputs, Size, baseline, ours, published_style
from rectified_lpjepa.functional import sliced_wasserstein
from rectified_lpjepa.main import main

SMALL = Size(16, 8, 32)


def test_both_sides_compute_the_same():
    inputs = Inputs.draw(SMALL, torch.device("cpu"))
    inputs = inputs._replace(targets=inputs.targets[:1].expand(2, -1, -1))
    torch.testing.assert_close(
        published_style(*inputs).detach(), sliced_wasserstein(inputs.z, inputs.targets[0], inputs.directions).detach()
    )
    gradients = []
    for side in (baseline, ours):
        side(inputs)
        gradients.append(inputs.z.grad.clone())
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[0].norm()  # rows of ties aside


def test_the_command_prints_and_stores_both_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "CPU_SIZES", (SMALL,))
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    main(["benchmark", "loss", "--repeats", "1", "--device", "cpu", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.count("16, 8, 32") == 2
    (row,) = json.loads((tmp_path / "loss-cpu.json").read_text())["rows"]
    assert row["ours / floor"]["median"] == pytest.approx(row["ours s"]["median"] / row["floor s"]["median"])
    (row,) = json.loads((tmp_path / "objective-cpu.json").read_text())["rows"]
    assert row["ours MiB, 4 N"] >= 0
    assert row["controlled / ours"]["median"] == pytest.approx(row["controlled s"]["median"] / row["ours s"]["median"])
