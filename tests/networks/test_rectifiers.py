"""Rectifiers and their gradients, against closed forms in SciPy."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from rectified_lpjepa.networks import RECTIFIERS, rectify

PHI, DENSITY = scipy.stats.norm.cdf, scipy.stats.norm.pdf
NON_NEGATIVE = [name for name in RECTIFIERS if name != "none"]

VALUES = {
    "relu": lambda x: np.maximum(x, 0),
    "rep_relu": lambda x: np.maximum(x, 0),
    "softplus_threshold": lambda x: np.maximum(np.logaddexp(0, x) - np.log(2), 0),
    "gelu_relu": lambda x: np.where(x > 0, x * PHI(x), 0),
    "none": lambda x: x,
}
GRADIENTS = {
    "relu": lambda x: 1.0 * (x > 0),
    "rep_relu": lambda x: PHI(x) + x * DENSITY(x),
    "softplus_threshold": lambda x: np.where(x > 0, scipy.special.expit(x), 0),
    "gelu_relu": lambda x: np.where(x > 0, PHI(x) + x * DENSITY(x), 0),
    "none": np.ones_like,
}


@pytest.mark.parametrize("name", RECTIFIERS)
def test_value_and_gradient_are_the_closed_forms(name):
    x = torch.tensor([*np.linspace(-6, 6, 121), -1000.0, 1000.0], dtype=torch.float64, requires_grad=True)
    rectified = rectify(x, name)
    (gradient,) = torch.autograd.grad(rectified.sum(), x)
    np.testing.assert_allclose(rectified.detach(), VALUES[name](x.detach().numpy()), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(gradient, GRADIENTS[name](x.detach().numpy()), rtol=1e-12, atol=1e-15)


def test_every_rectifier_has_its_closed_form():
    assert RECTIFIERS.keys() == VALUES.keys() == GRADIENTS.keys()


@pytest.mark.parametrize("name", NON_NEGATIVE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_features_are_active_where_x_is_positive(name, dtype):
    x = 3 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x, torch.tensor([0.0, -1e-4, 1e-4, 60.0, -60.0])]).to(dtype)
    rectified = rectify(x, name)
    assert rectified.dtype == dtype
    assert torch.equal(rectified != 0, x > 0)
    assert (rectified >= 0).all()


@pytest.mark.parametrize("name", ["relu", "rep_relu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_forward_pass_of_rep_relu_is_relu_to_the_last_bit(name, dtype):
    x = (3 * torch.randn(10_000, generator=torch.Generator().manual_seed(0))).to(dtype)
    assert torch.equal(rectify(x, name), x.clamp_min(0))


def test_a_softplus_keeps_its_digits_near_zero():
    x = torch.logspace(-30, 0, 61)
    expected = np.log1p(np.expm1(x.double().numpy()) / 2)
    np.testing.assert_allclose(rectify(x, "softplus_threshold"), expected, rtol=1e-6)


def test_none_changes_nothing():
    x = torch.randn(7)
    assert rectify(x, "none") is x


def test_an_unknown_rectifier_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no rectifier 'gelu'.*relu, rep_relu, softplus_threshold, gelu_relu, none"):
        rectify(torch.zeros(1), "gelu")
