"""The sliced Wasserstein distance over blocks of directions, which several threads draw when they are needed."""

import functools
import weakref

import pytest
import torch
from gradients import value_and_gradient
from sliced_problems import draw

from rectified_lpjepa.benchmarks import measure
from rectified_lpjepa.functional import random_directions, sliced_wasserstein
from rectified_lpjepa.functional.randomness import keyed_blocks


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_drawn_when_needed_equal_the_whole(dtype, threads):
    z, _, _ = draw(views=2, batch=50, dim=6, dtype=dtype)
    blocks = keyed_blocks(
        lambda num, generator: random_directions(num, 6, generator=generator, dtype=dtype),
        range(5, 93),
        100,
        16,
        seed=0,
        purpose="directions",
        step=0,
    )
    own = keyed_blocks(
        lambda num, generator: torch.randn(num, 6, generator=generator, dtype=dtype),
        range(50),
        50,
        16,
        seed=0,
        purpose="target",
        step=0,
    )
    whole = [torch.cat([block() for block in parts]) for parts in (own, blocks)]
    assert whole[1].shape == (88, 6)
    value, gradient = value_and_gradient(sliced_wasserstein, z, own, blocks)
    expected, expected_gradient = value_and_gradient(sliced_wasserstein, z, *whole)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=0)
    assert (gradient - expected_gradient).norm() <= tolerance * expected_gradient.norm()


def test_a_block_is_let_go_before_the_next_but_one_is_drawn():
    alive, most = set(), 0

    def drawn(block):
        nonlocal most
        directions = random_directions(4, 5, dtype=torch.float64)
        alive.add(block)
        weakref.finalize(directions, alive.discard, block)
        most = max(most, len(alive))
        return directions

    z, target, _ = draw()
    with measure.threads(1):
        sliced_wasserstein(z.requires_grad_(), target, [functools.partial(drawn, block) for block in range(50)])
    assert most <= 2
    assert not alive


def test_blocks_of_shared_and_of_each_views_own_directions_go_together():
    z, target, shared = draw(num=6)
    _, _, own = draw(num=4, per_view=True, seed=1)
    blocks = [lambda: own, lambda: shared]
    expected = [sliced_wasserstein(z, target, part, num_directions=10) for part in (own, shared)]
    torch.testing.assert_close(sliced_wasserstein(z, target, blocks), sum(expected))


def test_same_number_of_threads_gives_the_same_bits(threads):
    z, target, directions = draw(batch=64, dim=16, num=2000, dtype=torch.float32)
    one, other = (value_and_gradient(sliced_wasserstein, z, target, directions) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert torch.get_num_threads() == threads


def test_blocks_are_checked_and_gradients_of_target_or_directions_refused():
    z, target, directions = draw()
    with pytest.raises(ValueError, match=r"with D = 5 .*got shape \(9, 4\)"):
        sliced_wasserstein(z, target, [lambda: directions, lambda: directions[:, :4]])
    with pytest.raises(ValueError, match="at least 1 direction"):
        sliced_wasserstein(z, target, [])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        sliced_wasserstein(z, target, directions, num_directions=0)
    with pytest.raises(ValueError, match="target asks for a gradient"):
        sliced_wasserstein(z, target.clone().requires_grad_(), directions)
    with pytest.raises(ValueError, match="directions ask for a gradient"):
        sliced_wasserstein(z, target, directions.clone().requires_grad_())
