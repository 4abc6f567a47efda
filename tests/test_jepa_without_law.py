"""A model whose objective asks the features for no distribution: nothing is said of a target, and all else is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_jepa import BATCH, digits, quiet_trainer, tiny_model
from typing_extensions import override

from rectified_lpjepa.callbacks import FigureWriter, RunSummary, result_table
from rectified_lpjepa.evaluation.models import load_checkpoint
from rectified_lpjepa.functional import invariance
from rectified_lpjepa.objectives.objective import Objective, ObjectiveOutput
from rectified_lpjepa.remarks import remarks, start_remarks, told


class Lawless(Objective):
    """The invariance alone, and what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[torch.Tensor | None] = []

    @override
    def forward(self, z: torch.Tensor, gathered: torch.Tensor, **given: Any) -> ObjectiveOutput:
        self.labels.append(given["labels"])
        loss = invariance(z)
        return ObjectiveOutput(loss, {"attraction": loss.detach()})

    needs_gathering = False
    init_args: dict[str, Any] = {}  # noqa: RUF012
    law = None

    @override
    def description(self) -> dict[str, str | int | float]:
        return {"objective": "invariance"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Lawless]:
    path, objective = tmp_path_factory.mktemp("run"), Lawless()
    callbacks = [FigureWriter(every_n_epochs=1), RunSummary()]
    trainer = quiet_trainer(path, callbacks, limit_val_batches=None, log_every_n_steps=1)
    trainer.fit(tiny_model(objective=objective), digits())
    trainer.save_checkpoint(path / "model.ckpt")
    return path, objective


def test_no_metric_is_one_of_a_target(run: tuple[Path, Lawless]) -> None:
    metrics = json.loads((run[0] / "result.json").read_text())["metrics"]
    assert {"train/attraction", "val/sparsity/l0", "val/features/dead_units", "val/probe_encoder/top1"} <= set(metrics)
    assert not [name for name in metrics if name.endswith("_target")]
    assert "target" not in result_table(metrics)
    assert "target's" not in told(remarks(metrics))


def test_the_loss_is_that_of_the_whole_batch_and_is_given_the_labels(run: tuple[Path, Lawless]) -> None:
    facts = json.loads((run[0] / "summary.json").read_text())
    assert facts["loss taken over"] == f"{BATCH} images"
    assert (facts["objective"], start_remarks(facts)) == ("invariance", [])
    for labels in run[1].labels:
        assert labels is not None
        assert (labels.shape, labels.dtype, labels.min() >= 0) == ((BATCH,), torch.int64, True)


def test_what_has_no_target_is_drawn_without(run: tuple[Path, Lawless]) -> None:
    assert {path.stem for path in (run[0] / "figures").iterdir()} == {
        "feature_histogram",
        "loss_terms",
        "probe_accuracy",
        "sparsity",
    }


def test_its_checkpoint_is_evaluated_without_a_law(run: tuple[Path, Lawless]) -> None:
    assert load_checkpoint(run[0] / "model.ckpt").law is None
    assert "processes" not in torch.load(run[0] / "model.ckpt", weights_only=True)
