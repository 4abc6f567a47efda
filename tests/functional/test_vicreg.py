"""VICReg's variance and covariance terms, against NumPy."""

import itertools

import numpy as np
import pytest
import torch
from gradients import assert_autocast_changes_nothing
from hypothesis import given, settings
from hypothesis import strategies as st

from rectified_lpjepa.functional.vicreg import covariance_penalty, variance_hinge


def draw(views=2, batch=9, dim=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    scales = 2 * torch.rand(dim, generator=generator, dtype=dtype)
    return scales * torch.randn(views, batch, dim, generator=generator, dtype=dtype) + 0.7


def variance_in_numpy(z):
    return sum(np.maximum(0, 1 - np.sqrt(view.var(axis=0, ddof=1) + 1e-4)).mean() for view in z)


def covariance_in_numpy(z):
    total = 0.0
    for view in z:
        covariance = np.cov(view, rowvar=False).reshape(view.shape[1], -1)
        total += (covariance[~np.eye(len(covariance), dtype=bool)] ** 2).sum() / len(covariance)
    return total


IN_NUMPY = {variance_hinge: variance_in_numpy, covariance_penalty: covariance_in_numpy}
both = pytest.mark.parametrize("term", IN_NUMPY)


@both
@settings(max_examples=30)
@given(views=st.integers(1, 4), batch=st.integers(2, 12), dim=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_equals_numpy(term, views, batch, dim, seed):
    z = draw(views, batch, dim, seed)
    np.testing.assert_allclose(term(z).item(), IN_NUMPY[term](z.numpy()), rtol=1e-10, atol=1e-14)


@both
@settings(max_examples=30)
@given(shift=st.floats(-100, 100), seed=st.integers(0, 2**31))
def test_is_blind_to_the_mean_and_to_the_order_of_samples_and_features(term, shift, seed):
    z = draw(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    samples, features = (torch.randperm(count, generator=generator) for count in z.shape[1:])
    torch.testing.assert_close(term(z[:, samples][:, :, features] + shift), term(z))


@both
def test_gradient(term):
    assert torch.autograd.gradcheck(term, draw().requires_grad_())
    assert torch.autograd.gradcheck(lambda z: term(z, range(2, 5)), draw().requires_grad_())


@both
@pytest.mark.parametrize("cuts", [(0, 3, 6), (0, 0, 1, 6)])
def test_shares_add_up_to_the_whole(term, cuts):
    z = draw()
    shares = [term(z, range(first, last)) for first, last in itertools.pairwise(cuts)]
    torch.testing.assert_close(sum(shares), term(z))


def test_is_zero_for_wide_uncorrelated_features():
    # Columns of a Hadamard matrix.
    column = torch.tensor([1.0, 1, -1, -1, 1, 1, -1, -1])
    z = torch.stack([column, column.roll(1), torch.tensor([1.0, 1, 1, 1, -1, -1, -1, -1])], dim=1)[None]
    assert variance_hinge(z) == covariance_penalty(z) == 0
    assert variance_hinge(z / 2) > 0.4
    assert covariance_penalty(z[:, :, [0, 0]]) > 1


def test_collapsed_features_cost_the_most_and_the_gradient_is_finite():
    z = torch.full((3, 8, 5), 0.4, requires_grad=True)
    hinge = variance_hinge(z)
    assert hinge.item() == pytest.approx(3 * (1 - 0.01), rel=1e-5)
    (hinge + covariance_penalty(z)).backward()
    assert z.grad.isfinite().all()
    # Spread a little, they are spread further.
    near = (1e-3 * draw(dtype=torch.float32)).requires_grad_()
    variance_hinge(near).backward()
    assert (near.grad * (near.detach() - near.detach().mean(1, keepdim=True))).sum() < 0


@both
def test_autocast_changes_neither_value_nor_gradient(term):
    assert_autocast_changes_nothing(term, draw(dtype=torch.float32))


@both
def test_one_sample_has_no_variance(term):
    with pytest.raises(ValueError, match=r"at least 2 samples, got shape \(2, 1, 6\).*HINT"):
        term(draw(batch=1))
