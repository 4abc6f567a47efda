"""Work shared by as many threads as PyTorch may use, each of which computes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def map_in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply a function to items, each in a thread of its own, without gradients.

    There are as many threads as PyTorch uses for one operation in the calling thread. Operations of PyTorch inside use
    one thread each, so that a chain of operations on a part that fits into a core's cache runs through without waiting
    for the others; a single item is worked on by the calling thread, with all of them. NumPy and PyTorch let other
    threads run while they compute.

    Args:
        function: what to do with an item.
        items: one for each thread, or more.

    Returns:
        The results in the order of the items.
    """
    threads, items = torch.get_num_threads(), list(items)
    if threads == 1 or len(items) <= 1:
        with torch.no_grad():
            return [function(item) for item in items]
    with ThreadPoolExecutor(threads, initializer=_compute_alone) as pool:
        try:
            return list(pool.map(function, items))
        finally:
            # A thread's setting is also what PyTorch gives to threads that are started later.
            torch.set_num_threads(threads)


def _compute_alone() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
