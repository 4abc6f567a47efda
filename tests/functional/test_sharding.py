"""Shares of rows: all of them, once, evenly."""

import pytest

from rectified_lpjepa.functional.sharding import Shard


@pytest.mark.parametrize("total", [0, 1, 5, 8192, 8193])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_shares_cover_every_row_once_and_evenly(total, world_size):
    shares = [Shard(rank, world_size).rows(total) for rank in range(world_size)]
    assert [row for share in shares for row in share] == list(range(total))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_default_is_the_whole():
    assert Shard().rows(10) == range(10)
