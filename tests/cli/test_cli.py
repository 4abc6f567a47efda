"""The command line, end to end on a tiny run: what it writes, and what it says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from identical import assert_identical
from run_files import checkpoint, rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rectified_lpjepa.cli import CLI
from rectified_lpjepa.distributed import AllGatherDDPStrategy
from rectified_lpjepa.main import main
from rectified_lpjepa.source import commit


def test_a_run_leaves_everything_in_its_directory_and_validates_to_the_same_numbers(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    command("fit", directory=directory)
    printed = capsys.readouterr().out
    assert "encoder probe, top-1" in printed
    assert f"figures: {directory / 'figures'}" in printed
    assert "(16 directions)" in printed.partition("Epoch 1/2")[0]
    assert "warning: the features have collapsed" in printed.partition("encoder probe, top-1")[2]

    for name in ("config.yaml", "identity.json", "summary.json", "result.json", "checkpoints/last.ckpt"):
        assert (directory / name).is_file(), name
    figures = {path.stem for path in (directory / "figures").glob("*.png")}
    assert figures == {"feature_histogram", "projected_marginals", "loss_terms", "sparsity", "probe_accuracy"}
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["peak learning rates"]["weights"] == pytest.approx(0.01 * 32 / 256)
    assert summary["active fraction of the target"] == pytest.approx(0.2465, abs=1e-3)

    result = json.loads((directory / "result.json").read_text())
    assert (result["epochs"], result["steps"]) == (2, 6)
    assert result["commit"] == commit()
    logged = {key: value for key, value in result["metrics"].items() if key.startswith("val/")}
    last = [row for row in rows(directory) if row["val/sparsity/l0"]][-1]
    assert {key: float(last[key]) for key in logged} == pytest.approx(logged)
    board = EventAccumulator(str(directory / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert {event.step for event in board.Scalars("step/loss")} == set(range(6))
    assert "figures/feature_histogram" in board.Tags()["images"]

    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    moved = directory.rename(tmp_path / "moved")
    main(["validate", "--ckpt_path", str(moved / "checkpoints" / "last.ckpt")])
    printed = capsys.readouterr().out
    assert "equal to training's log" in printed
    assert "warning: the features have collapsed" in printed
    assert f"figures: {moved / 'figures'}" in printed
    assert not directory.exists()
    moved.rename(directory)

    command("test", directory=directory)
    assert "encoder probe, top-1" in capsys.readouterr().out

    command("predict", directory=directory)
    with np.load(directory / "features_test.npz", allow_pickle=False) as features:
        assert features["encoder"].shape == (360, 16)
        assert features["projector"].shape == (360, 12)
        assert features["labels"].shape == (360,)
        assert (features["indices"] == np.arange(360)).all()
        assert np.mean(features["projector"] != 0) == pytest.approx(logged["val/sparsity/l0"], abs=1e-6)

    before = checkpoint(directory)
    command("fit", directory=directory)
    assert "is finished" in capsys.readouterr().out
    assert_identical(checkpoint(directory), before)


def test_unlabelled_data_train_without_probes(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images, x_test=images[:40])
    data = f"{{class_path: NpzDataModule, init_args: {{path: {tmp_path / 'set.npz'}, batch_size: 32}}}}"
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    main(["fit", "--config", str(config), f"--data={data}", "--run.dir", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "share of non-zeros" in printed
    assert "probe, top" not in printed
    assert not any("probe" in key for key in checkpoint(tmp_path / "run")["state_dict"])


def test_the_last_epoch_is_validated_whatever_the_interval(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    options = ("--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2")
    command("fit", *options, directory=directory)
    assert [row["epoch"] for row in rows(directory) if row["val/sparsity/l0"]] == ["1", "2"]
    command("validate", *options, directory=directory)
    assert "equal to training's log" in capsys.readouterr().out


def test_a_trial_leaves_a_run_as_it_is(
    command: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    command("fit", "--trainer.fast_dev_run=true", "--model.optimizer.warmup_epochs=0", directory=directory)
    assert not (directory / "result.json").exists()
    with pytest.raises(SystemExit) as stop:
        command("fit", "--trainer.max_time=00:00:00:00", directory=directory)
    assert stop.value.code == 3
    assert "--trainer.max_time` is used up in epoch 1" in capsys.readouterr().out
    assert not (directory / "result.json").exists()


def test_a_saved_configuration_starts_the_same_run_and_discards_nothing(
    command: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    command("fit", "--run.fresh=true", directory=directory)
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    main(["fit", "--config", str(directory / "config.yaml")])
    assert "is finished" in capsys.readouterr().out


def test_several_devices_gather_features_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, config: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(CLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    arguments = ["fit", "--config", str(config), "--run.root", str(tmp_path), "--trainer.devices=2"]
    for more, is_ours in (((), True), (("--trainer.strategy=ddp",), False)):
        cli = CLI([*arguments, *more])
        assert isinstance(cli.trainer.strategy, AllGatherDDPStrategy) == is_ours
        cli.directory.close()
