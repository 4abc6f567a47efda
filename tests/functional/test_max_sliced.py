"""The largest distance along a direction, against optimal transport and a shift whose direction is known."""

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectified_lpjepa.functional import random_directions, sliced_wasserstein
from rectified_lpjepa.functional.max_sliced import ascend_directions, projected_wasserstein
from rectified_lpjepa.functional.randomness import keyed_generator


def normal(*shape, seed=0):
    return torch.randn(shape, generator=keyed_generator(seed, "test"))


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 100))
def test_equals_optimal_transport_along_each_direction(samples, dim, seed):
    z, y = normal(samples, dim, seed=seed), 0.5 + normal(samples, dim, seed=seed + 1000)
    directions = random_directions(4, dim, generator=keyed_generator(seed, "directions"))
    found = projected_wasserstein(z, y, directions)
    for direction, value in zip(directions, found, strict=True):
        expected = ot.wasserstein_1d((z @ direction).numpy(), (y @ direction).numpy(), p=2)
        assert value.item() == pytest.approx(float(expected), rel=1e-4, abs=1e-6)
    torch.testing.assert_close(found.mean(), sliced_wasserstein(z.unsqueeze(0), y, directions))


def test_ascent_finds_the_direction_of_a_shift():
    """Of two samples that differ by a shift the distance along c is (c · shift)², largest along the shift."""
    shift = torch.zeros(40)
    shift[:2] = torch.tensor([0.6, 0.8])
    y = normal(500, 40)
    starts = random_directions(3, 40, generator=keyed_generator(0, "starts"))
    found = ascend_directions(y + shift, y, starts, steps=40)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    assert ((found @ shift).abs() > 0.99).all()


def test_ascent_never_loses_what_it_started_from():
    z, y = normal(50, 6, seed=1), normal(50, 6, seed=2)
    starts = random_directions(5, 6, generator=keyed_generator(0, "starts"))
    before = projected_wasserstein(z, y, starts)
    assert (projected_wasserstein(z, y, ascend_directions(z, y, starts, steps=1)) >= before).all()
    assert projected_wasserstein(z, z, ascend_directions(z, z, starts, steps=3)).max() == 0


def test_samples_of_two_sizes():
    with pytest.raises(ValueError, match=r"one shape, got \(5, 3\) and \(4, 3\)"):
        projected_wasserstein(normal(5, 3), normal(4, 3), torch.eye(3))
