"""The fit of a generalised Gaussian, against SciPy's and the parameters that were drawn from."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gennorm

from rectified_lpjepa.functional import generalized_gaussian as gg
from rectified_lpjepa.functional.generalized_gaussian_fit import LARGEST_P, fit_generalized_gaussian
from rectified_lpjepa.functional.randomness import keyed_generator

SHAPES = torch.tensor([0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 8.0])


def draw(p, mu, sigma, samples, seed=0, dtype=torch.float64):
    return gg.sample(p, mu, sigma, (samples, len(p)), generator=keyed_generator(seed, "test"), dtype=dtype)


def mean_log_likelihood(x, p, mu, sigma):
    return float(gg.log_prob(x, float(p), float(mu), float(sigma)).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_scipy(dtype):
    x = draw(SHAPES, 5.0, 0.1, 1000, dtype=dtype)
    fit = fit_generalized_gaussian(x)
    for column, p, mu, sigma in zip(x.T.double(), *fit, strict=True):
        beta, loc, scale = gennorm.fit(column.numpy())
        scipy_sigma = scale * beta ** (-1 / beta)
        # Neither search is exact, and at p < 1 the likelihood has many maxima.
        assert mean_log_likelihood(column, p, mu, sigma) > mean_log_likelihood(column, beta, loc, scipy_sigma) - 5e-5
        if beta > 0.9:
            assert float(p) == pytest.approx(beta, rel=5e-3)
            assert float(mu) == pytest.approx(loc, abs=5e-4)
            assert float(sigma) == pytest.approx(scipy_sigma, rel=5e-3)


@pytest.mark.parametrize(
    "skewed", [np.random.default_rng(0).exponential(size=600), np.random.default_rng(0).gumbel(size=600)]
)
def test_agrees_with_scipy_on_another_law(skewed):
    p, mu, sigma = (float(value) for value in fit_generalized_gaussian(torch.from_numpy(skewed)[:, None]))
    beta, loc, scale = gennorm.fit(skewed)
    assert (p, mu, sigma) == pytest.approx((beta, loc, scale * beta ** (-1 / beta)), rel=1e-2)


def test_finds_the_parameters_of_many_features():
    p = SHAPES.repeat(10)
    mu, sigma = torch.linspace(-2, 2, len(p)), torch.linspace(0.1, 3, len(p))
    fit = fit_generalized_gaussian(draw(p, mu, sigma, 4000, dtype=torch.float32))
    assert ((fit.p / p).log().abs() < 0.25).all()
    assert ((fit.mu - mu).abs() / sigma < 0.12).all()
    assert ((fit.sigma / sigma).log().abs() < 0.2).all()
    torch.testing.assert_close((fit.p / p).log().mean(), torch.tensor(0.0, dtype=torch.float64), rtol=0, atol=0.02)


@settings(max_examples=15)
@given(st.floats(0.6, 4), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_follows_shift_and_scale(p, shift, scale):
    x = draw(torch.tensor([p]), 0.0, 1.0, 200)
    fit, moved = fit_generalized_gaussian(x), fit_generalized_gaussian(shift + scale * x)
    assert float(moved.p) == pytest.approx(float(fit.p), rel=1e-3)
    assert float(moved.mu) == pytest.approx(shift + scale * float(fit.mu), abs=2e-3 * scale)
    assert float(moved.sigma) == pytest.approx(scale * float(fit.sigma), rel=1e-3)


def test_degenerate_samples():
    x = torch.stack([torch.full((50,), 0.1), torch.linspace(0, 1, 50), torch.arange(50) % 2.0], dim=1)
    fit = fit_generalized_gaussian(x)
    assert all(bool(values[0].isnan()) for values in fit)
    assert float(fit.p[1]) == pytest.approx(LARGEST_P)  # uniform
    assert all(bool(values[1:].isfinite().all()) for values in fit)
    with pytest.raises(ValueError, match="at least 3 samples, got 2"):
        fit_generalized_gaussian(x[:2])
