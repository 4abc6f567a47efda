"""Processes of the command line that are stopped, killed or refused, and go on bit for bit."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from processes import CONTEXT
from run_files import checkpoint
from same_runs import assert_same_boards, assert_same_run

from rectified_lpjepa.callbacks import RunSummary
from rectified_lpjepa.main import main
from rectified_lpjepa.run import Run, RunDirectory

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
    more: list[str],
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
        options = [f"--run.dir={folder / name}", f"--trainer.devices={world_size}", *more]
        main(["fit", "--config", str(folder / "config.yaml"), *options])


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., list[int]]:
    (tmp_path / "config.yaml").write_text(CONFIG)

    def run(
        world_size: int,
        name: str,
        signals: dict[int, dict[int, int]] | None = None,
        largest_file: int | None = None,
        more: list[str] | None = None,
    ) -> list[int]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = (world_size, port, tmp_path, name, signals or {}, largest_file, more or [])
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
        assert checkpoint(tmp_path / "parts")["global_step"] == saved
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
        assert checkpoint(tmp_path / "parts")["global_step"] == saved
    assert start(2, "parts", more=["--trainer.max_time=00:00:00:00"]) == [3, 0]
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
    assert checkpoint(tmp_path / "parts")["global_step"] == 14
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
