"""Which figures a run draws, when, and from which numbers."""

import math

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import TinyModule, batches, fit, tiny_trainer

from rectified_lpjepa import plots
from rectified_lpjepa.callbacks import AtomicCheckpointIO, FigureWriter, RunCheckpoint

ALL = {"feature_histogram", "projected_marginals", "sparsity", "loss_terms", "probe_accuracy"}


def drawn(path) -> set[str]:
    return {file.stem for file in (path / "figures").glob("*.png")}


@pytest.mark.parametrize(
    ("every", "last", "expected"), [(2, 5, [[1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5]]), (1, 2, [[1], [1, 2]])]
)
def test_all_figures_are_drawn_every_few_epochs_and_once_at_the_end(tmp_path, monkeypatch, every, last, expected):
    epochs, draw = [], plots.sparsity_over_time
    monkeypatch.setattr(plots, "sparsity_over_time", lambda *given: epochs.append(list(given[0])) or draw(*given))
    fit(tiny_trainer(tmp_path, [FigureWriter(every)], last, enable_checkpointing=False), TinyModule())
    assert drawn(tmp_path) == ALL
    assert epochs == expected


def test_history_holds_what_was_logged(tmp_path):
    writer = FigureWriter()
    trainer = tiny_trainer(tmp_path, [writer], 3, enable_checkpointing=False)
    module = fit(trainer, TinyModule())
    assert writer.epochs == [1, 2, 3]
    assert {"train/loss", "train/invariance", "val/sparsity/l0", "val/probe_encoder/top1"} <= writer.history.keys()
    assert {name.split("/")[0] for name in writer.history} == {"train", "val"}
    assert all(len(values) == 3 for values in writer.history.values())
    assert all(isinstance(value, float) for values in writer.history.values() for value in values)
    # The last validation, computed here once more from the module's weights.
    z = torch.stack([module.map(batch).relu() for batch in batches(2, seed=1)])
    assert writer.history["val/sparsity/l0"][-1] == pytest.approx((z > 0).float().mean().item())
    assert writer.history["train/loss"][-1] == pytest.approx(trainer.callback_metrics["train/loss"].item())
    assert writer.history["train/loss"][-1] < writer.history["train/loss"][0]


def test_epochs_without_validation_are_not_given_the_former_one(tmp_path):
    writer = FigureWriter()
    trainer = tiny_trainer(tmp_path, [writer], 4, enable_checkpointing=False, check_val_every_n_epoch=2)
    fit(trainer, TinyModule())
    assert [math.isnan(value) for value in writer.history["val/sparsity/l0"]] == [True, False, True, False]
    assert not any(math.isnan(value) for value in writer.history["train/loss"])


def test_a_resumed_run_has_the_whole_history(tmp_path):
    whole, first, second = FigureWriter(), FigureWriter(), FigureWriter()
    arguments = {"plugins": [AtomicCheckpointIO()]}
    fit(tiny_trainer(tmp_path / "whole", [whole, RunCheckpoint()], 4, **arguments), TinyModule())
    run = tmp_path / "run"
    fit(tiny_trainer(run, [first, RunCheckpoint()], 2, **arguments), TinyModule())
    trainer = tiny_trainer(run, [second, RunCheckpoint()], 4, **arguments)
    fit(trainer, TinyModule(), ckpt_path=run / "checkpoints" / "last.ckpt")
    assert second.epochs == [1, 2, 3, 4]
    assert second.history == whole.history


def test_validate_alone_draws_the_features(tmp_path):
    trainer = tiny_trainer(tmp_path, [FigureWriter()])
    trainer.validate(TinyModule(), batches(2), verbose=False)
    assert drawn(tmp_path) == {"feature_histogram", "projected_marginals"}


def test_validate_with_a_checkpoint_draws_the_run_too(tmp_path):
    fit(tiny_trainer(tmp_path / "run", [FigureWriter(), RunCheckpoint()]), TinyModule())
    trainer = tiny_trainer(tmp_path / "again", [FigureWriter(), RunCheckpoint()])
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    trainer.validate(TinyModule(), batches(2), ckpt_path=checkpoint, verbose=False, weights_only=True)
    assert drawn(tmp_path / "again") == ALL


def test_without_labels_there_is_no_probe_figure(tmp_path):
    fit(tiny_trainer(tmp_path, [FigureWriter()], 1, enable_checkpointing=False), TinyModule(labels=False))
    assert drawn(tmp_path) == ALL - {"probe_accuracy"}


def test_without_validation_only_the_loss_is_drawn(tmp_path):
    trainer = tiny_trainer(tmp_path, [FigureWriter()], 1, enable_checkpointing=False, limit_val_batches=0)
    fit(trainer, TinyModule())
    assert drawn(tmp_path) == {"loss_terms"}


def test_tensorboard_shows_the_same_figures(tmp_path):
    logger = TensorBoardLogger(tmp_path, name=None, version="logs")
    trainer = tiny_trainer(tmp_path, [FigureWriter()], 1, enable_checkpointing=False, logger=logger)
    fit(trainer, TinyModule())
    events = EventAccumulator(str(tmp_path / "logs"), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == {f"figures/{name}" for name in ALL}
    assert events.Images("figures/sparsity")[0].step == 4


def test_refuses_a_period_below_one():
    with pytest.raises(ValueError, match=r"every_n_epochs=0\) must be at least 1"):
        FigureWriter(every_n_epochs=0)
