"""Run a function in several real processes that talk through gloo, for tests.

A hang, a process that dies and an exception all fail the caller, and no process is left behind.
"""

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jsonargparse._deprecated import JsonargparseDeprecationWarning
from lightning.pytorch.utilities import rank_zero_only

# Processes are forked from a server that has imported the slow packages once, and nothing else.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["rectified_lpjepa.cli"])


class ProcessFailedError(RuntimeError):
    """A process raised, died or did not finish in time."""


def run_processes(function: Callable[..., Any], world_size: int, *args: Any, timeout: float = 60.0) -> list[Any]:
    """Call ``function(rank, world_size, *args)`` in every process of a gloo group.

    Args:
        function: defined at the top of an importable module.
        world_size: number of processes.
        *args: further arguments, to be pickled.
        timeout: seconds until all processes must have finished.

    Returns:
        What the processes returned, by rank.

    Raises:
        ProcessFailedError: if a process raised, ended without a result or with another exit code than 0, or ran longer
            than ``timeout``.
    """
    with tempfile.TemporaryDirectory() as folder:
        receivers, processes = [], []
        for rank in range(world_size):
            receiver, sender = CONTEXT.Pipe(duplex=False)
            arguments = (sender, Path(folder) / "rendezvous", timeout, function, rank, world_size, args)
            process = CONTEXT.Process(target=_worker, args=arguments, daemon=True)
            process.start()
            sender.close()
            receivers.append(receiver)
            processes.append(process)
        try:
            results = _receive(receivers, time.monotonic() + timeout)
            for rank, process in enumerate(processes):
                process.join(timeout)
                if process.exitcode != 0:
                    raise ProcessFailedError(f"Rank {rank} returned, then ended with exit code {process.exitcode}.")
        finally:
            for process in processes:
                process.kill()
                process.join()
    return results


def become_one_of(rank: int, world_size: int) -> None:
    """Let Lightning take this process for one that torchrun started, and ignore what pytest's configuration ignores."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "test"}
    variables |= {"WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    os.environ |= {name: str(value) for name, value in variables.items()}
    rank_zero_only.rank = rank  # read when Lightning was imported, before this process was one of several
    # Lightning calls older names of torch and jsonargparse.
    warnings.filterwarnings("ignore", ".isinstance.treespec, LeafSpec", FutureWarning)
    warnings.filterwarnings("ignore", category=JsonargparseDeprecationWarning)
    warnings.filterwarnings("ignore", r"The '\w+' does not have many workers")
    # On the CPU the gradients of 1 × 1 convolutions come in another layout than their weights' channels_last.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")


def _receive(receivers: list[Connection], deadline: float) -> list[Any]:
    results: dict[int, Any] = {}
    failures: dict[int, str] = {}
    while len(results) + len(failures) < len(receivers):
        waiting = {receiver: rank for rank, receiver in enumerate(receivers) if rank not in results | failures}
        ready = wait(list(waiting), timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            failures |= dict.fromkeys(waiting.values(), "did not finish in time.")
        for receiver in ready:
            rank = waiting[receiver]
            try:
                succeeded, result = pickle.loads(receiver.recv_bytes())
            except EOFError:
                succeeded, result = False, "died without a result."
            (results if succeeded else failures)[rank] = result
        if failures:
            # One failed process soon fails the others: a moment later the message shows the cause among them.
            deadline = min(deadline, time.monotonic() + 2)
    if failures:
        raise ProcessFailedError("\n".join(f"Rank {rank} {failures[rank]}" for rank in sorted(failures)))
    return [results[rank] for rank in range(len(receivers))]


def _worker(
    sender: Connection,
    rendezvous: Path,
    timeout: float,
    function: Callable[..., Any],
    rank: int,
    world_size: int,
    args: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{rendezvous}",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout),
        )
        with warnings.catch_warnings(action="error"):
            # Lightning's, wherever SLURM is installed.
            warnings.filterwarnings("ignore", "The `srun` command is available")
            result = function(rank, world_size, *args)
        # Pickled here, by value: torch would otherwise pass tensors through memory that ends with this process.
        message = pickle.dumps((True, result))
        dist.destroy_process_group()
    except Exception:
        sender.send_bytes(pickle.dumps((False, f"raised:\n{traceback.format_exc()}")))
        raise SystemExit(1) from None
    sender.send_bytes(message)
