"""How many bytes a process sends to the others: counted in its collectives, and computed from the sizes."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override


class Exchange(TorchDispatchMode):
    """Counts what this process sends in the collectives called inside, with the least that each can do with.

    Attributes:
        sent: bytes. Of W processes each sends its part W − 1 times in an all-gather, adds up and passes on W − 1 parts
            in a reduce-scatter, and does both in an all-reduce.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self.sent += self._bytes(func.overloadpacket.__name__, args)
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _bytes(name: str, args: Any) -> int:
        if name in ("_allgather_base_", "_reduce_scatter_base_"):
            output, part = args[:2]
            return abs(int(output.nbytes) - int(part.nbytes))
        if name == "allreduce_":
            others, everyone = dist.get_world_size() - 1, dist.get_world_size()
            return sum(2 * int(tensor.nbytes) * others // everyone for tensor in args[0])
        raise ValueError(f"What {name} sends is not known here. HINT: add it to Exchange.")


def bytes_sent(views: int, batch: int, dim: int, world_size: int) -> int:
    """Compute what each of W processes sends in an all-gather, or a reduce-scatter, of features in float32.

    Args:
        views: number of views V.
        batch: samples of all processes together.
        dim: number of features D.
        world_size: number of processes W.

    Returns:
        4·V·B·D·(W − 1) / W.
    """
    return 4 * views * batch * dim * (world_size - 1) // world_size
