"""Which part of a whole belongs to which process."""

from __future__ import annotations

from typing import NamedTuple


class Shard(NamedTuple):
    """One process among equals."""

    rank: int = 0
    """Number of this process, 0-based."""
    world_size: int = 1
    """Number of processes W."""

    def rows(self, total: int) -> range:
        """Return this process's contiguous share of ``total`` rows; the shares differ by one row at most.

        Args:
            total: number of rows of all processes together. Need not be a multiple of the number of processes.
        """
        return range(self.rank * total // self.world_size, (self.rank + 1) * total // self.world_size)
