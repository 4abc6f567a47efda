"""Runs that are stopped anywhere and go on equal the run that was never stopped, bit for bit."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from identical import assert_identical
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer
from lightning.pytorch.utilities import rank_zero_only
from processes import CONTEXT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_jepa import digits, quiet_trainer, tiny_model

from rectified_lpjepa.callbacks import FigureWriter, FiniteCheck, RunCheckpoint, RunSummary
from rectified_lpjepa.loggers import run_loggers
from rectified_lpjepa.main import main
from rectified_lpjepa.optim import Optimizer
from rectified_lpjepa.run import Run, RunDirectory


def read(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    return loaded


def table(directory: Path) -> list[dict[str, str]]:
    with (directory / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_run(one: Path, other: Path) -> None:
    """Compare what two runs ended with, and everything in their tables."""
    ends = [read(directory) for directory in (one, other)]
    for end in ends:
        end["callbacks"] = {name: end["callbacks"][name] for name in ("FigureWriter",) if name in end["callbacks"]}
    assert_identical(*ends)
    assert table(one) == table(other)


def assert_same_boards(one: Path, other: Path) -> None:
    """Compare the curves in TensorBoard; it sorts the files of starts within one second of one process wrongly."""
    boards = [EventAccumulator(str(directory / "tensorboard")).Reload() for directory in (one, other)]
    tags = boards[0].Tags()["scalars"]
    assert tags == boards[1].Tags()["scalars"]
    assert "train/loss" in tags
    for tag in tags:
        one_curve, other_curve = ([(event.step, event.value) for event in board.Scalars(tag)] for board in boards)
        assert one_curve == other_curve, tag


# ------------------------------------------------------------------ within one process: every step, every kind of run


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums, and so the last bits, depend on the number of threads; and short runs are fastest with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Stop(Callback):
    """Sends a signal to its own process in the midst of a step."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.step = None
            signal.raise_signal(signal.SIGTERM)


def train(path: Path, stop_at: int | None, **arguments: Any) -> bool:
    """Start a run, or let it go on; say whether it came to its end."""
    last = path / "checkpoints" / "last.ckpt"
    step = read(path)["global_step"] if last.exists() else 0
    settings = {"max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    settings |= {"log_every_n_steps": 2, "logger": run_loggers(path, step), "enable_checkpointing": True}
    callbacks = [Stop(stop_at), FiniteCheck(), FigureWriter(), RunCheckpoint(), RunSummary()]
    trainer = quiet_trainer(path, callbacks, **(settings | arguments))
    model = tiny_model(optimizer=Optimizer("adamw", lr=0.08, probe_lr=0.8, warmup_epochs=0))
    handler = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"The '\w+' does not have many workers")
        try:
            trainer.fit(model, digits(), ckpt_path=str(last) if last.exists() else None, weights_only=True)
        except SystemExit:
            return False
        finally:
            assert signal.getsignal(signal.SIGTERM) is handler
    return True


KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "accumulated": (6, {"accumulate_grad_batches": 2, "limit_train_batches": 5}),
    "validated in every step": (8, {"val_check_interval": 1, "log_every_n_steps": 1}),
    "validated every second epoch": (9, {"check_val_every_n_epoch": 2, "max_epochs": 3, "limit_train_batches": 3}),
    "ends by steps": (6, {"max_steps": 6, "max_epochs": -1}),
    "whole epochs": (118, {"limit_train_batches": 1.0, "log_every_n_steps": 20}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_in_any_step_equals_the_one_that_was_not(tmp_path: Path, kind: str) -> None:
    steps, arguments = KINDS[kind]
    assert train(tmp_path / "whole", None, **arguments)
    assert read(tmp_path / "whole")["global_step"] == steps
    # One run that is stopped in every step (in some steps, where there are many), and goes on each time.
    for step in range(0, steps, 1 if steps < 20 else 29):
        if train(tmp_path / "parts", step, **arguments):
            break
    assert train(tmp_path / "parts", None, **arguments)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_signal_in_the_last_step_lets_the_epoch_and_the_run_end(tmp_path: Path) -> None:
    assert not train(tmp_path / "run", 3)
    assert [row["step"] for row in table(tmp_path / "run") if row["val/sparsity/l0"]] == ["3"]
    assert read(tmp_path / "run")["epoch"] == 1
    assert train(tmp_path / "run", 7)
    assert (tmp_path / "run" / "result.json").exists()


class OutOfTime(Timer):
    """A limit of time that is reached in the midst of an epoch, after a batch."""

    def __init__(self, step: int | None) -> None:
        super().__init__("00:01:00:00")
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.step is not None and trainer.fit_loop.epoch_loop.total_batch_idx == self.step:
            self._offset += 3600
        super().on_train_batch_end(trainer)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_limit_of_time_saves_amid_an_epoch_and_is_no_end(tmp_path: Path, accumulated: int) -> None:
    arguments = {"accumulate_grad_batches": accumulated, "limit_train_batches": 8}
    with mock.patch(f"{__name__}.Stop", OutOfTime):
        assert not train(tmp_path / "parts", 4, **arguments)
        assert read(tmp_path / "parts")["global_step"] == (5 if accumulated == 1 else 3)
        # The time is used up, and nothing is done: the run is not finished by that.
        before = (tmp_path / "parts" / "checkpoints" / "last.ckpt").read_bytes()
        train(tmp_path / "parts", None, **arguments)
        assert (tmp_path / "parts" / "checkpoints" / "last.ckpt").read_bytes() == before
        assert not (tmp_path / "parts" / "result.json").exists()
        with mock.patch.object(OutOfTime, "load_state_dict"):  # more time
            assert train(tmp_path / "parts", None, **arguments)
        assert train(tmp_path / "whole", None, **arguments)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_early_stopping_is_an_end(tmp_path: Path) -> None:
    def criterion(_: Any) -> EarlyStopping:
        return EarlyStopping("val/sparsity/l0", stopping_threshold=0.0, mode="max")

    with mock.patch(f"{__name__}.Stop", criterion):
        assert train(tmp_path, None, max_epochs=20)
    assert json.loads((tmp_path / "result.json").read_text())["epochs"] == 1


def test_saves_every_few_steps(tmp_path: Path) -> None:
    steps = []

    class Killed(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
            steps.append(read(tmp_path / "parts")["global_step"] if last.exists() else 0)
            if trainer.global_step == 7:
                raise KeyError("killed")

    with mock.patch(f"{__name__}.RunCheckpoint", partial(RunCheckpoint, every_n_steps=3)):
        with mock.patch(f"{__name__}.FiniteCheck", Killed), pytest.raises(KeyError):
            train(tmp_path / "parts", None)
        assert steps == [0, 0, 0, 3, 4, 4, 6, 6]
        train(tmp_path / "parts", None)
        train(tmp_path / "whole", None)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


# --------------------------------------------------------------------------- real processes, by the command line


CONFIG = """
seed_everything: 3
trainer: {max_epochs: 3, accelerator: cpu, log_every_n_steps: 2, limit_train_batches: 7}
model:
  objective: {class_path: RDMReg, init_args: {target: {p: 1.0, mu: -0.5}, directions: {num: 64}}}
  backbone: {name: resnet18, kwargs: {layers: [1, 1, 1, 1], channels: [8, 8, 16, 16], drop_rate: 0.1}}
  projector: {hidden_dim: 16, out_dim: 12}
  optimizer: {name: adamw, lr: 0.01, probe_lr: 0.1, warmup_epochs: 1}
data: {class_path: DigitsDataModule, init_args: {batch_size: 32}}
"""


def one_of(
    rank: int,
    world_size: int,
    port: int,
    folder: Path,
    name: str,
    signals: dict[int, dict[int, int]],
    largest_file: int | None,
) -> None:
    """Run the command line as one process; send itself signals in given steps; fail to write larger files."""
    torch.set_num_threads(1)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if world_size > 1:
        elastic = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
        elastic |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
        os.environ |= {key: str(value) for key, value in elastic.items()}
        rank_zero_only.rank = rank  # read when Lightning was imported, before this process was one of several
    own = dict(signals.get(rank, {}))

    def send(self: RunSummary, trainer: Trainer, *_: Any) -> None:
        number = own.pop(trainer.global_step, None)
        if number is not None:
            os.kill(os.getpid(), number)

    output = (folder / f"{name}-{rank}.log").open("a", buffering=1)
    with mock.patch.object(RunSummary, "on_train_batch_start", send), redirect_stdout(output), redirect_stderr(output):
        options = [f"--run.dir={folder / name}", f"--trainer.devices={world_size}"]
        main(["fit", "--config", str(folder / "config.yaml"), *options])


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., list[int]]:
    (tmp_path / "config.yaml").write_text(CONFIG)

    def run(
        world_size: int,
        name: str,
        signals: dict[int, dict[int, int]] | None = None,
        largest_file: int | None = None,
    ) -> list[int]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = (world_size, port, tmp_path, name, signals or {}, largest_file)
        arguments = [(rank, *common) for rank in range(world_size)]
        processes = [CONTEXT.Process(target=one_of, args=arguments_of_one) for arguments_of_one in arguments]
        for process in processes:
            process.start()
        try:
            for process in processes:
                process.join(60)
            return [process.exitcode for process in processes]
        finally:
            for process in processes:
                process.kill()

    return run


def test_one_process_stopped_by_every_signal_goes_on_bit_for_bit(
    start: Callable[..., list[int]], tmp_path: Path
) -> None:
    assert start(1, "whole") == [0]
    assert start(1, "parts", {0: {3: signal.SIGKILL}}) == [-9]  # before there is a checkpoint
    stops = [
        (2, signal.SIGTERM, 143, 3),
        (6, signal.SIGUSR1, 138, 7),  # in the last step of an epoch: after the epoch
        (9, signal.SIGINT, 130, 10),
        (12, signal.SIGKILL, -9, 10),
    ]
    for step, number, code, saved in stops:
        assert start(1, "parts", {0: {step: number}}) == [code], (step, number)
        assert read(tmp_path / "parts")["global_step"] == saved
    assert start(1, "parts") == [0]
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert_same_boards(tmp_path / "whole", tmp_path / "parts")
    starts = [json.loads(line) for line in (tmp_path / "parts" / "starts.jsonl").read_text().splitlines()]
    assert [line["step"] for line in starts] == [0, 0, 3, 7, 10, 10]
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts")]
    assert results[0]["metrics"] == results[1]["metrics"]


def test_two_processes_stop_together_and_go_on_bit_for_bit(start: Callable[..., list[int]], tmp_path: Path) -> None:
    assert start(2, "whole") == [0, 0]
    stops = [
        ({1: {2: signal.SIGTERM}}, [143, 143], 4),  # of all processes after the next logged step
        ({0: {8: signal.SIGUSR1}, 1: {9: signal.SIGUSR1}}, [138, 138], 10),
        ({0: {12: signal.SIGKILL}, 1: {12: signal.SIGKILL}}, [-9, -9], 10),
    ]
    for signals, codes, saved in stops:
        assert start(2, "parts", signals) == codes, signals
        assert read(tmp_path / "parts")["global_step"] == saved
    assert start(2, "parts") == [0, 0]
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert_same_boards(tmp_path / "whole", tmp_path / "parts")


def test_a_run_in_progress_is_refused_and_a_killed_one_is_not(start: Callable[..., list[int]], tmp_path: Path) -> None:
    identity = {"seed": 3}
    directory = RunDirectory(Run(dir=str(tmp_path / "run")), identity)
    directory.open()  # by this process, which goes on
    (tmp_path / "run" / "identity.json").unlink()  # of no interest here
    assert start(1, "run") == [1]
    message = (tmp_path / "run-0.log").read_text()
    assert f"error: The run {tmp_path / 'run'} is in progress: {{" in message
    assert f'"pid": {os.getpid()}' in message
    directory.close()
    assert start(1, "run", {0: {2: signal.SIGKILL}}) == [-9]
    assert start(1, "run") == [0]


def test_a_full_disk_and_a_damaged_checkpoint_cost_no_more_than_some_steps(
    start: Callable[..., list[int]], tmp_path: Path
) -> None:
    assert start(1, "whole") == [0]
    assert start(1, "parts", {0: {9: signal.SIGTERM}}) == [143]
    checkpoints, log = tmp_path / "parts" / "checkpoints", tmp_path / "parts-0.log"
    before = (checkpoints / "last.ckpt").read_bytes()

    assert start(1, "parts", largest_file=len(before) // 2) == [1]
    assert (
        f"The checkpoint '{checkpoints.resolve() / 'last.ckpt'}' could not be written: File too large"
        in log.read_text()
    )
    assert (checkpoints / "last.ckpt").read_bytes() == before
    assert sorted(file.name for file in checkpoints.iterdir()) == ["last.ckpt", "previous.ckpt"]

    # With room again it goes on, and is killed; what it wrote last is half a file.
    assert start(1, "parts", {0: {17: signal.SIGKILL}}) == [-9]
    assert read(tmp_path / "parts")["global_step"] == 14
    (checkpoints / "last.ckpt").write_bytes((checkpoints / "last.ckpt").read_bytes()[:-1000])
    assert start(1, "parts") == [0]
    assert "last.ckpt' is damaged or truncated" in log.read_text()
    assert (
        f"The run goes on from {tmp_path / 'parts' / 'checkpoints' / 'previous.ckpt'} in its place." in log.read_text()
    )
    assert (checkpoints / "last.ckpt.damaged").exists()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert_same_boards(tmp_path / "whole", tmp_path / "parts")
    starts = [json.loads(line)["step"] for line in (tmp_path / "parts" / "starts.jsonl").read_text().splitlines()]
    assert starts == [0, 10, 10, 10]
