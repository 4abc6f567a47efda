"""What a run reads from its device and exchanges between processes during an epoch, with everything on that fit has."""

from __future__ import annotations

import signal
import sys
import traceback
from collections import Counter
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from processes import become_one_of, run_processes
from tiny_jepa import digits, quiet_trainer, tiny_model
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from rectified_lpjepa.callbacks import FigureWriter, FiniteCheck, ProgressBar, RunCheckpoint, RunSummary
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.loggers import run_loggers
from rectified_lpjepa.main import main
from rectified_lpjepa.optim import Optimizer

EVERY, STEPS = 4, 11
READS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2")
LOOKS = ("_look", "losses", "log_metrics")  # of the finite check, the progress bar and the loggers
STOP = "is_requested"  # asked of all processes together
# The loader works on the host, and on a CPU views and distance have ways of their own that look at values.
ON_THE_HOST = ("_next_data", "apply_selectively", "sliced_wasserstein")


class Watch(TorchDispatchMode):
    """Notes the steps in which values are read on the host or processes talk to each other, and who does it."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.trainer = trainer
        self.reads: list[tuple[int, str]] = []
        self.exchanges: list[tuple[int, str]] = []
        self.on = False

    def note_read(self) -> None:
        functions = [frame.name for frame in traceback.extract_stack()]
        if self.on and not set(functions) & set(ON_THE_HOST):
            self.reads.append((self.trainer.global_step, " < ".join(reversed(functions[-12:-2]))))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if func.namespace == "c10d" and self.on:
            self.exchanges.append((self.trainer.global_step, name))
        if name in READS:
            self.note_read()
        return func(*args, **(kwargs or {}))


class Watching(Callback):
    """Watches from the end of the first step, in which the target becomes known, to the last batch of the epoch."""

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.watch = Watch(trainer)
        self.stack = ExitStack()
        self.stack.enter_context(self.watch)
        for method in ("tolist", "numpy", "cpu"):  # on the CPU these are no operations
            original = getattr(Tensor, method)

            def read(tensor: Tensor, *arguments: Any, original: Any = original, **keywords: Any) -> Any:
                self.watch.note_read()
                return original(tensor, *arguments, **keywords)

            self.stack.enter_context(mock.patch.object(Tensor, method, read))

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.watch.on = not trainer.is_last_batch

    def on_fit_end(self, *_: Any) -> None:
        self.stack.close()


def fit(path: Path, model_class: type[RectifiedLpJEPA] = RectifiedLpJEPA, **arguments: Any) -> Watch:
    """Train and validate with all that the command line adds, on a terminal."""
    watching = Watching()
    callbacks = [watching, RunSummary(), FiniteCheck(), ProgressBar(2), FigureWriter(), RunCheckpoint()]
    settings = {"limit_train_batches": STEPS, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    settings |= {"log_every_n_steps": EVERY, "logger": run_loggers(path, 0), "max_epochs": 2}
    settings |= {"enable_progress_bar": True, "enable_checkpointing": True}
    with mock.patch.object(sys.stdout, "isatty", return_value=True):
        # LARS: AdamW's plain path reads its own step counters, which lie on the host.
        model = tiny_model(model_class, optimizer=Optimizer("lars", lr=0.1, warmup_epochs=0))
        quiet_trainer(path, callbacks, **(settings | arguments)).fit(model, digits())
    return watching.watch


class Reading(RectifiedLpJEPA):
    """Reads its loss in every step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output = super().training_step(batch, batch_idx)
        output["loss"].item()
        return output


def unlogged(notes: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """What does not belong to the end of a logged step."""
    return [(step, who) for step, who in notes if step % EVERY or not any(name in who for name in (*LOOKS, STOP))]


def test_values_are_read_in_logged_steps_only(tmp_path: Path) -> None:
    reads = fit(tmp_path).reads
    assert unlogged(reads) == []
    for name in LOOKS:
        assert {step for step, who in reads if name in who} == {4, 8, 12, 16, 20}, name


def test_a_step_that_reads_is_seen(tmp_path: Path) -> None:
    reads = fit(tmp_path, Reading, max_epochs=1).reads
    assert len([who for _, who in unlogged(reads) if "training_step" in who]) == STEPS - 1


# ------------------------------------------------------------------------------------------------- two processes


def watch_one_of(rank: int, world_size: int, path: Path) -> tuple[list[Any], list[Any]]:
    become_one_of(rank, world_size)
    watch = fit(path, devices=world_size, strategy="ddp_all_gather", sync_batchnorm=True)
    return watch.reads, watch.exchanges


def test_processes_exchange_features_and_gradients_and_a_look_in_logged_steps(tmp_path: Path) -> None:
    for reads, exchanges in run_processes(watch_one_of, 2, tmp_path, timeout=120):
        assert unlogged(reads) == []
        # Per step the features are gathered, their gradients scattered and those of the parameters, one bucket, summed;
        # and each batch norm exchanges the statistics of both views, and what their gradients need.
        norms = 2 * sum(isinstance(module, _BatchNorm) for module in tiny_model().modules())
        ours = {"_allgather_base_": 1 + norms, "_reduce_scatter_base_": 1}
        for step in (step for step in range(2, 2 * STEPS) if step != STEPS):
            found = Counter(name for at, name in exchanges if at == step)
            # In logged steps the terms are averaged, and the processes agree on what is finite and whether to stop.
            # The first of these is noted under the step before, as the optimiser has not stepped yet.
            assert found == ours | {"allreduce_": norms + {0: 3, EVERY - 1: 2}.get(step % EVERY, 1)}, step


CONFIG = """
trainer: {max_epochs: 2, accelerator: cpu, devices: 2}
model:
  objective: {class_path: RDMReg, init_args: {directions: {num: 16}}}
  backbone: {name: resnet18, kwargs: {layers: [1, 1, 1, 1], channels: [8, 8, 16, 16]}}
  projector: {hidden_dim: 16, out_dim: 12}
  optimizer: {name: adamw, warmup_epochs: 0}
data: {class_path: DigitsDataModule, init_args: {batch_size: 32}}
"""


def train_one_of(rank: int, world_size: int, path: Path, signalled: int, at: str) -> tuple[Any, str]:
    """Train by the command line; one of the processes gets SIGTERM at a place."""
    become_one_of(rank, world_size)
    sys.argv = ["rectified-lpjepa"]
    place = {"step": (RunSummary, "on_train_batch_start"), "validation": (RunSummary, "on_validation_epoch_end")}[at]

    def terminate(self: RunSummary, trainer: Trainer, *arguments: Any) -> None:
        if rank == signalled and not trainer.sanity_checking and trainer.global_step in (5, STEPS):
            signal.raise_signal(signal.SIGTERM)

    lengths = [f"--trainer.limit_train_batches={STEPS}", f"--trainer.log_every_n_steps={EVERY}"]
    with mock.patch.object(*place, terminate), redirect_stdout(StringIO()) as printed, pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(path / "config.yaml"), "--run.dir", str(path / "run"), *lengths])
    return end.value.code, printed.getvalue()


@pytest.mark.parametrize("signalled", [0, 1])
@pytest.mark.parametrize(("at", "step"), [("step", 8), ("validation", STEPS)])
def test_sigterm_to_one_process_ends_all_in_the_same_place(tmp_path: Path, signalled: int, at: str, step: int) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (code, printed), (other_code, _) = run_processes(train_one_of, 2, tmp_path, signalled, at, timeout=60)
    assert code == other_code == 128 + signal.SIGTERM
    [message] = [line for line in printed.splitlines() if line.startswith("stopped by SIGTERM")]
    assert f"after step {step};" in message
    assert "goes on from" in message
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
