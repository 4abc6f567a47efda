"""A process of two that fails in one of the ways in which processes do."""

import multiprocessing.util
import os
import time

import torch
import torch.distributed as dist


def misbehave(rank, world_size, how):
    if rank == 1:
        if how == "raise":
            raise KeyError("broken on purpose")
        if how == "die":
            os._exit(3)
        if how == "hang":
            time.sleep(100)
    if how == "exit code":
        # After the result has been sent, while Python shuts down.
        multiprocessing.util.Finalize(None, os._exit, args=(7,), exitpriority=0)
    total = torch.tensor(float(rank))
    if how != "wait for nobody":
        dist.all_reduce(total)
    return total, world_size
