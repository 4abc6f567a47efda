"""Signs that a run is spoilt are said while it trains: once each, and those in the features not too early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tiny_jepa import Recorder, digits, quiet_trainer, tiny_model

from rectified_lpjepa.callbacks import RunSummary, summary
from rectified_lpjepa.remarks import Remark

HEADLINE = "warning: the training loss rises"


def test_a_sign_is_said_once_from_the_middle_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[tuple[dict[str, float], list[float]]] = []

    def notices(metrics: Mapping[str, float], losses: Sequence[float]) -> list[Remark]:
        given.append((dict(metrics), list(losses)))
        return [Remark("warning", "spoilt", "m", "a"), Remark("note", "known", "m", "a")] if metrics else []

    monkeypatch.setattr(summary, "remarks", notices)
    recorder = Recorder()
    trainer = quiet_trainer(tmp_path, [recorder, RunSummary()], max_epochs=4, limit_val_batches=1)
    trainer.fit(tiny_model(), digits())
    printed = capsys.readouterr().out
    assert printed.count("epoch 2: warning: spoilt (m)") == printed.count("spoilt") == 1
    assert "known" not in printed
    # The last epoch is left to the end of the run.
    assert [bool(metrics) for metrics, _ in given] == [False, True, True]
    assert given[1][0].keys() >= {"val/features/variance", "val/features/variance_target", "val/features/dead_units"}
    losses = [float(terms["loss"]) for terms in recorder.terms]
    assert given[-1][1] == pytest.approx([(losses[2 * epoch] + losses[2 * epoch + 1]) / 2 for epoch in range(3)])


def test_a_loss_that_rises_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Rises(RunSummary):
        """Has seen a loss far below any that the run has."""

        def on_train_start(self, trainer: object, pl_module: object) -> None:
            super().on_train_start(trainer, pl_module)  # type: ignore[arg-type]
            self._losses = [1e-6]

    quiet_trainer(tmp_path, [Rises()], max_epochs=4).fit(tiny_model(), digits())
    printed = capsys.readouterr().out
    assert printed.count(f"epoch 1: {HEADLINE}") == printed.count(HEADLINE) == 1
    assert "HINT: half of `model.optimizer.lr`" in printed


def test_what_was_said_is_remembered_where_a_run_goes_on() -> None:
    stopped, further = RunSummary(), RunSummary()
    stopped._losses, stopped._remarked = [3.0, 1.0], {"spoilt", "lost"}
    further.load_state_dict(stopped.state_dict())
    assert (further._losses, further._remarked) == ([3.0, 1.0], {"spoilt", "lost"})


def test_a_good_run_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet_trainer(tmp_path, [RunSummary()], max_epochs=2).fit(tiny_model(), digits())
    assert HEADLINE not in capsys.readouterr().out
