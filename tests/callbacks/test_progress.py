"""What is said while a run goes on, in a terminal and in a log file."""

import re
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from tiny_run import TinyModule, batches, fit, tiny_trainer

from rectified_lpjepa.callbacks import ProgressBar, progress
from rectified_lpjepa.callbacks.progress import losses, validated

TERMS = {
    "loss": torch.tensor(12.3456),
    "invariance": torch.tensor(0.05123),
    "rdmreg": torch.tensor(0.0087654),
    "probe_encoder": torch.tensor(4.6),
}
METRICS = {
    "train/loss": torch.tensor(12.3456),
    "val/probe_encoder/top1": torch.tensor(0.6567),
    "val/probe_projector/top1": torch.tensor(0.6),
    "val/sparsity/l0": torch.tensor(0.5164),
    "val/sparsity/l0_target": torch.tensor(0.5),
    "val/features/mean": torch.tensor(0.4),
}

QUIET = {"enable_checkpointing": False, "enable_progress_bar": True}


def test_names_are_short_and_digits_few():
    assert losses(TERMS) == {"loss": "12.3", "inv": "0.0512", "rdm": "0.00877"}
    assert validated(METRICS) == {"enc": "65.7", "proj": "60.0", "l0": ".516/.500"}
    assert validated({"val/sparsity/l0": torch.tensor(1.0), "val/sparsity/l0_target": torch.tensor(0.0072)}) == {
        "l0": "1.000/.007"
    }


def test_what_is_missing_is_left_out():
    assert losses({}) == validated({}) == {}
    assert losses({"loss": torch.tensor(1.0)}) == {"loss": "1"}
    assert validated({"train/loss": torch.tensor(1.0), "val/sparsity/l0": torch.tensor(0.5)}) == {"l0": ".500"}


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


def test_values_are_fetched_in_logged_steps_only(terminal, tmp_path, monkeypatch, capsys):
    fetched, item = [], torch.Tensor.item

    class Step(pl.Callback):
        """Says which step the values are fetched in."""

        def on_train_batch_start(self, trainer, *_):
            self.now = trainer.global_step + 1

    step = Step()

    class Watched(ProgressBar):
        def on_train_batch_end(self, *arguments):
            with monkeypatch.context() as patch:
                patch.setattr(torch.Tensor, "item", lambda value: fetched.append(step.now) or item(value))
                super().on_train_batch_end(*arguments)

    trainer = tiny_trainer(tmp_path, [step, Watched(refresh_rate=2)], 1, **QUIET, log_every_n_steps=10)
    trainer.fit(TinyModule(), batches(25), batches(2, seed=1))
    assert sorted(set(fetched)) == [10, 20]
    bars = [text for text in re.split(r"[\r\n]", capsys.readouterr().out) if text.startswith("Epoch 1/1")]
    positions = [int(re.search(r"(\d+)/25", text)[1]) for text in bars]
    assert {2, 4, 12, 25} <= set(positions)
    losses_shown = [re.search(r"loss=([\d.]+)", text) for text in bars]
    assert not any(shown for position, shown in zip(positions, losses_shown, strict=True) if position < 10)
    assert len({shown[1] for shown in losses_shown if shown}) == 2


def test_validation_alone_shows_its_results_and_no_bar_in_a_log(tmp_path, capsys):
    trainer = tiny_trainer(tmp_path, [ProgressBar()], enable_progress_bar=True)
    trainer.validate(TinyModule(), batches(2), verbose=False)
    assert capsys.readouterr().out == ""


def test_without_an_end_only_the_epoch_is_counted(tmp_path, capsys):
    trainer = tiny_trainer(tmp_path, [ProgressBar()], -1, max_steps=4, **QUIET)
    fit(trainer, TinyModule())
    assert capsys.readouterr().out.startswith("Epoch 1  loss")
