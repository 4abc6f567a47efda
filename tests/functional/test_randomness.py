"""Seeds, generators and blocks of rows that follow from a key alone."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rectified_lpjepa.functional.randomness import keyed_blocks, keyed_generator, keyed_seed


def test_seed_is_pinned_across_processes_and_versions():
    # A changed hash would silently break the resumption of every run.
    assert keyed_seed(0, "directions", 3, 1) == 435581479784403134


def test_seeds_of_different_keys_differ_even_in_the_32_bits_a_cpu_generator_uses():
    keys = itertools.product((0, 1, 2**40), ("directions", "target"), range(40), range(20))
    low_bits = [keyed_seed(seed, purpose, *position) & 0xFFFFFFFF for seed, purpose, *position in keys]
    assert len(set(low_bits)) == len(low_bits) == 4800


def test_position_is_not_flattened_into_ambiguous_keys():
    seeds = {
        keyed_seed(0, "order", 1, 11),
        keyed_seed(0, "order", 11, 1),
        keyed_seed(0, "order", 111),
        keyed_seed(0, "order"),
        keyed_seed(0, "order1", 11),
        keyed_seed(1, "order", 11),
    }
    assert len(seeds) == 6


def test_seed_fits_a_generator_and_takes_numpy_integers():
    assert all(0 <= keyed_seed(seed, "target") < 2**63 for seed in range(100))
    assert keyed_seed(np.int64(5), "target", np.int32(2)) == keyed_seed(5, "target", 2)


def test_generator_ignores_and_keeps_the_global_one():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = torch.randn(8, generator=keyed_generator(7, "target", 0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, torch.randn(8, generator=keyed_generator(7, "target", 0)))
    assert not torch.equal(first, torch.randn(8, generator=keyed_generator(7, "target", 1)))


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_generator_lives_on_the_device(device):
    assert keyed_generator(0, "target", device=device).device == torch.device("cpu")


def block_rows(rows: range, total: int = 23) -> list[torch.Tensor]:
    def draw(num: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(num, 3, generator=generator)

    blocks = keyed_blocks(draw, rows, total, 5, seed=1, purpose="target", step=2)
    return [block() for block in reversed(blocks)][::-1]  # the order in which they are drawn does not matter


@given(st.data())
def test_any_rows_of_keyed_blocks_are_those_of_the_whole(data: st.DataObject):
    start, stop = sorted(data.draw(st.tuples(st.integers(0, 23), st.integers(0, 23))))
    whole = torch.cat(block_rows(range(23)))
    assert whole.shape == (23, 3)
    assert len(whole.unique()) == whole.numel()
    parts = block_rows(range(start, stop))
    assert all(len(part) for part in parts)
    assert torch.equal(torch.cat([*parts, whole[:0]]), whole[start:stop])


def test_each_block_has_the_generator_of_its_key():
    assert torch.equal(block_rows(range(5, 10))[0], torch.randn(5, 3, generator=keyed_generator(1, "target", 2, 1)))
