"""The invariance of views, against PyTorch's mean squared error."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from rectified_lpjepa.functional import invariance


def views(count, dtype=torch.float64):
    return torch.randn(count, 7, 5, generator=torch.Generator().manual_seed(count), dtype=dtype)


def test_two_views_equal_the_mean_squared_error():
    z = views(2)
    torch.testing.assert_close(invariance(z), F.mse_loss(z[0], z[1]))


def test_more_views_equal_the_mean_over_pairs():
    z = views(4)
    pairs = [F.mse_loss(a, b) for a, b in itertools.combinations(z, 2)]
    torch.testing.assert_close(invariance(z), torch.stack(pairs).mean())


def test_is_zero_for_equal_views_and_blind_to_what_they_share():
    z = views(2)
    assert invariance(z[:1].expand(2, -1, -1)) == 0
    assert invariance(z[:1].expand(3, -1, -1)) < 1e-30
    torch.testing.assert_close(invariance(z + 100), invariance(z))


@pytest.mark.parametrize("count", [2, 3])
def test_gradient(count):
    assert torch.autograd.gradcheck(invariance, views(count).requires_grad_())


def test_autocast_and_half_precision_compute_in_float32():
    z = views(2, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = invariance(z)
    assert torch.equal(inside, invariance(z))
    # Squares beyond the largest half-precision number.
    far = torch.tensor([[[300.0]], [[-300.0]]], dtype=torch.float16)
    assert invariance(far) == 360_000


@pytest.mark.parametrize("shape", [(1, 7, 5), (7, 5)])
def test_errors(shape):
    with pytest.raises(ValueError, match="at least 2 views"):
        invariance(torch.ones(shape))
