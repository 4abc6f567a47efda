import re
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from tiny_run import TinyModule, batches, fit, tiny_trainer

from rectified_lpjepa.callbacks import ProgressBar, progress
from rectified_lpjepa.callbacks.progress import summary

METRICS = {
    "train/loss": torch.tensor(12.3456),
    "train/invariance": torch.tensor(0.05123),
    "train/rdmreg": torch.tensor(0.0087654),
    "step/loss": torch.tensor(11.0),
    "step/rdmreg": torch.tensor(0.5),
    "val/probe_encoder/top1": torch.tensor(0.6567),
    "val/probe_projector/top1": torch.tensor(0.6),
    "val/sparsity/l0": torch.tensor(0.5164),
    "val/sparsity/l0_target": torch.tensor(0.5),
    "val/features/mean": torch.tensor(0.4),
}

QUIET = {"enable_checkpointing": False, "enable_progress_bar": True}


def test_summary_has_short_names_and_few_digits():
    assert summary(METRICS) == {
        "loss": "12.3",
        "inv": "0.0512",
        "rdm": "0.00877",
        "enc": "65.7",
        "proj": "60.0",
        "l0": ".516/.500",
    }
    assert summary({"val/sparsity/l0": torch.tensor(1.0), "val/sparsity/l0_target": torch.tensor(0.0072)}) == {
        "l0": "1.000/.007"
    }


def test_summary_of_a_step_has_the_losses_of_that_step():
    shown = summary(METRICS, losses="step")
    assert {name: shown.get(name) for name in ("loss", "inv", "rdm", "enc")} == {
        "loss": "11",
        "inv": None,
        "rdm": "0.5",
        "enc": "65.7",
    }


def test_summary_leaves_out_what_is_missing():
    assert summary({}) == {}
    assert summary({"train/loss": torch.tensor(1.0), "val/sparsity/l0": torch.tensor(0.5)}) == {"loss": "1"}


def train(path, bar, epochs=2, **arguments):
    trainer = tiny_trainer(path, [bar], epochs, **QUIET, **arguments)
    trainer.fit(TinyModule(), batches(25), batches(2, seed=1))
    return trainer


def test_a_log_file_gets_one_line_for_each_epoch(tmp_path, capsys):
    train(tmp_path, ProgressBar(), logger=CSVLogger(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    number = r"[\d.e+-]+"
    line = rf"loss {number}  inv {number}  rdm {number}  enc {number}  proj {number}  l0 [\d.]+/\.500  \({number} s\)"
    for epoch, text in enumerate(lines, start=1):
        assert re.fullmatch(rf"Epoch {epoch}/2  {line}", text), text


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("LINES", "20")


def test_a_terminal_gets_a_bar(terminal, tmp_path, capsys):
    train(tmp_path, ProgressBar(), logger=CSVLogger(tmp_path))
    shown = re.split(r"[\r\n]", capsys.readouterr().out)
    ends = [text for text in shown if text.startswith("Epoch 2/2: 100%")]
    assert re.search(r"loss=[\d.]+, inv=[\d.]+, rdm=[\d.]+, enc=[\d.]+, proj=[\d.]+, l0=[\d.]+/\.500\]$", ends[-1])
    assert not any("v_num" in text or "train/" in text for text in shown)
    assert not any(text.startswith("Epoch 2/2  ") for text in shown)


def test_values_are_fetched_at_a_refresh_only(terminal, tmp_path, monkeypatch):
    asked = []
    get_metrics = ProgressBar.get_metrics

    def spy(self, trainer, pl_module):
        asked.append((trainer.current_epoch, trainer.global_step))
        return get_metrics(self, trainer, pl_module)

    monkeypatch.setattr(ProgressBar, "get_metrics", spy)
    train(tmp_path, ProgressBar(refresh_rate=10), epochs=1)
    # After the sanity check, batches 10 and 20, the last one, after validation and at the end of the epoch.
    assert asked == [(0, 0), (0, 10), (0, 20), (0, 25), (0, 25), (0, 25)]


def test_validation_alone_shows_its_results_and_no_bar_in_a_log(tmp_path, capsys):
    trainer = tiny_trainer(tmp_path, [ProgressBar()], enable_progress_bar=True)
    trainer.validate(TinyModule(), batches(2), verbose=False)
    assert capsys.readouterr().out == ""


def test_without_an_end_only_the_epoch_is_counted(tmp_path, capsys):
    trainer = tiny_trainer(tmp_path, [ProgressBar()], -1, max_steps=4, **QUIET)
    fit(trainer, TinyModule())
    assert capsys.readouterr().out.startswith("Epoch 1  loss")
