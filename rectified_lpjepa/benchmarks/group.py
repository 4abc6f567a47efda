"""Real processes that talk to each other, started for a measurement."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes


def run_group(
    function: Callable[..., Any], world_size: int, *args: Any, backend: str = "gloo", timeout: float = 600.0
) -> list[Any]:
    """Call ``function(rank, world_size, *args)`` in every process of a group, with one thread each.

    Args:
        function: defined at the top of an importable module.
        world_size: number of processes.
        *args: further arguments, to be pickled.
        backend: ``gloo``, or ``nccl`` with one GPU for each process.
        timeout: seconds until all processes must have finished; each collective must by then, too.

    Returns:
        What the processes returned, by rank.

    Raises:
        torch.multiprocessing.ProcessRaisedException: a process raised; the others are ended.
        torch.multiprocessing.ProcessExitedException: a process died; the others are ended.
        TimeoutError: the processes did not finish in time; they are ended.
    """
    # Processes are forked from a server that has imported the slow packages once, and that never touches a GPU.
    multiprocessing.set_forkserver_preload(["rectified_lpjepa.distributed"])
    with tempfile.TemporaryDirectory() as name:
        folder, deadline = Path(name), time.monotonic() + timeout
        context = start_processes(
            _work,
            (world_size, folder, backend, timeout, function, args),
            nprocs=world_size,
            join=False,
            daemon=True,
            start_method="forkserver",
        )
        try:
            while not context.join(max(0.0, deadline - time.monotonic())):
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"The {world_size} processes did not finish within {timeout:g} s.")
        finally:
            for process in context.processes:
                process.kill()
                process.join()
        return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(world_size)]


def _work(
    rank: int,
    world_size: int,
    folder: Path,
    backend: str,
    timeout: float,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    if backend == "nccl":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        backend,
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout),
    )
    result = function(rank, world_size, *args)
    (folder / str(rank)).write_bytes(pickle.dumps(result))
    dist.destroy_process_group()
