"""The distance of single features to the quantiles of their law, against its equation."""

import numpy as np
import pytest
import torch
from gradients import value_and_gradient
from hypothesis import given
from hypothesis import strategies as st

from rectified_lpjepa.functional import sliced_wasserstein
from rectified_lpjepa.functional.axis_wasserstein import axis_wasserstein


def draw(views=2, batch=12, dim=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(views, batch, dim, generator=generator, dtype=dtype).relu()
    return z, torch.randn(batch, generator=generator, dtype=dtype).relu()


def plain(z, quantiles, features=None):
    """The equation, for autograd."""
    chosen = z if features is None else z[:, :, features]
    return (chosen.sort(dim=1).values - quantiles.sort().values[:, None]).square().mean()


@given(st.integers(1, 3), st.integers(1, 16), st.integers(1, 8), st.integers(0, 99), st.booleans())
def test_equals_the_equation(views, batch, dim, seed, single):
    z, quantiles = draw(views, batch, dim, seed, torch.float32 if single else torch.float64)
    # Of equal values, such as zeros, any may come first.
    z += 1e-3 * torch.rand(z.shape, generator=torch.Generator().manual_seed(seed)).to(z.dtype)
    found, expected = (value_and_gradient(function, z, quantiles) for function in (axis_wasserstein, plain))
    torch.testing.assert_close(found, expected)


def test_is_the_sliced_distance_along_one_hot_directions():
    z, quantiles = draw()
    target = quantiles[:, None].expand(-1, 5).contiguous()
    torch.testing.assert_close(axis_wasserstein(z, quantiles), sliced_wasserstein(z, target, torch.eye(5).double()))


def test_some_features_get_all_the_gradient():
    z, quantiles = draw()
    features = torch.tensor([3, 1])
    found, gradient = value_and_gradient(axis_wasserstein, z, quantiles, features)
    expected, expected_gradient = value_and_gradient(plain, z, quantiles, features)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient[:, :, features], expected_gradient[:, :, features])
    assert not gradient[:, :, [0, 2, 4]].any()


def test_shares_add_up():
    z, quantiles = draw()
    whole = value_and_gradient(axis_wasserstein, z, quantiles)
    shares = [
        value_and_gradient(axis_wasserstein, z, quantiles, torch.tensor(part, dtype=torch.int64), num_features=5)
        for part in ([0, 1], [], [2, 3, 4])
    ]
    torch.testing.assert_close(sum(value for value, _ in shares), whole[0])
    torch.testing.assert_close(sum(gradient for _, gradient in shares), whole[1])


def test_many_features_on_several_threads(threads):
    z, quantiles = draw(batch=64, dim=33)
    z += 1e-3 * torch.rand(z.shape, generator=torch.Generator().manual_seed(0))  # no ties
    found, expected = (value_and_gradient(function, z, quantiles) for function in (axis_wasserstein, plain))
    torch.testing.assert_close(found, expected)
    assert torch.get_num_threads() == threads


def test_zero_for_features_that_follow_the_law_and_a_gradient_at_collapse():
    z, quantiles = draw()
    perfect = quantiles[torch.stack([torch.randperm(12) for _ in range(10)])].view(2, 5, 12).mT
    assert axis_wasserstein(perfect, quantiles) == 0
    _, gradient = value_and_gradient(axis_wasserstein, torch.zeros_like(z), quantiles)
    assert gradient.std(dim=1).min() > 0


def test_under_autocast_and_of_half_precision_it_is_float32():
    z, quantiles = draw(dtype=torch.float32)
    expected = axis_wasserstein(z, quantiles)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(axis_wasserstein(z, quantiles), expected)
    assert axis_wasserstein(z.bfloat16(), quantiles).dtype == torch.float32


def test_quantiles_stay_as_they_are():
    z, quantiles = draw(dtype=torch.float32)
    before = quantiles.clone()
    axis_wasserstein(z, quantiles)
    assert torch.equal(quantiles, before)


def test_no_second_derivative():
    z, quantiles = draw()
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(axis_wasserstein(z, quantiles), z, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.sum().backward()


@pytest.mark.parametrize(("shape", "num"), [((12, 5), 12), ((2, 12, 5), 11), ((2, 0, 5), 0)])
def test_shapes_that_do_not_fit(shape, num):
    with pytest.raises(ValueError, match=r"Expected features \(V, B, D\)"):
        axis_wasserstein(torch.zeros(shape), torch.zeros(num))


def test_nothing_to_compare():
    z, quantiles = draw()
    with pytest.raises(ValueError, match="at least 1 feature"):
        axis_wasserstein(z, quantiles, torch.tensor([], dtype=torch.int64))


def test_nan_is_passed_on():
    z, quantiles = draw(dtype=torch.float32)
    z[0, 0, 0] = np.nan
    assert axis_wasserstein(z, quantiles).isnan()
