"""The invariance of views to their mean, against NumPy."""

import numpy as np
import pytest
import torch

from rectified_lpjepa.functional import invariance
from rectified_lpjepa.functional.invariance_to_mean import invariance_to_mean


def views(count, dtype=torch.float64):
    return torch.randn(count, 7, 5, generator=torch.Generator().manual_seed(count), dtype=dtype)


def test_is_a_quarter_of_the_mean_squared_error_of_two_views():
    torch.testing.assert_close(invariance_to_mean(views(2)), invariance(views(2)) / 4)


@pytest.mark.parametrize("count", [2, 5])
def test_is_the_variance_over_views(count):
    z = views(count)
    np.testing.assert_allclose(invariance_to_mean(z).item(), z.numpy().var(axis=0).mean(), rtol=1e-12)
    torch.testing.assert_close(invariance_to_mean(z, count), invariance_to_mean(z))


@pytest.mark.parametrize("global_views", [1, 2, 4])
def test_compares_all_views_with_the_mean_of_the_global_ones(global_views):
    z = views(5)
    centre = z.numpy()[:global_views].mean(0)
    expected = np.mean([((view - centre) ** 2).mean() for view in z.numpy()])
    np.testing.assert_allclose(invariance_to_mean(z, global_views).item(), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda z: invariance_to_mean(z, global_views), z.requires_grad_())


def test_autocast_and_half_precision_compute_in_float32():
    z = views(2, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = invariance_to_mean(z)
    assert torch.equal(inside, invariance_to_mean(z))
    # Squares beyond the largest half-precision number.
    assert invariance_to_mean(torch.tensor([[[300.0]], [[-300.0]]], dtype=torch.float16)) == 90_000


def test_errors():
    with pytest.raises(ValueError, match="at least 2 views"):
        invariance_to_mean(views(1))
    for global_views in (0, 3):
        with pytest.raises(ValueError, match=f"between 1 and 2, the number of views, got {global_views}"):
            invariance_to_mean(views(2), global_views)
