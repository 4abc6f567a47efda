"""A law as a few equally likely values, against SciPy's quantiles and integrals."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.integrate
from gennorm import gennorm
from hypothesis import given
from hypothesis import strategies as st

from rectified_lpjepa.distributions import GeneralizedGaussian, RectifiedGeneralizedGaussian
from rectified_lpjepa.functional.quantized_law import quantized_law

laws = st.tuples(st.sampled_from([0.5, 0.75, 1.0, 2.0, 4.0]), st.floats(-3, 2), st.floats(0.2, 3))


@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize(
    ("p", "mu", "sigma"), [(2.0, 0.0, 1.0), (1.0, -1.0, 0.707), (0.5, -0.3, 0.365), (3.0, 0.8, 2.0)]
)
def test_each_value_is_the_mean_of_its_slice(p, mu, sigma, rectified):
    num, law = 5, gennorm(p, mu, sigma)
    edges = law.ppf(np.arange(num + 1) / num)
    expected = []
    for low, high in pairwise(edges):
        points = sorted({low, high, *(x for x in (0.0, mu) if low < x < high)})
        parts = [
            scipy.integrate.quad(lambda x: num * law.pdf(x) * (max(0.0, x) if rectified else x), a, b, epsabs=1e-11)[0]
            for a, b in pairwise(points)
        ]
        expected.append(sum(parts))
    np.testing.assert_allclose(quantized_law(num, p, mu, sigma, rectified=rectified), expected, rtol=1e-7, atol=1e-9)


@given(laws, st.integers(1, 300), st.booleans())
def test_has_the_laws_mean_and_order_and_less_variance(law, num, rectified):
    p, mu, sigma = law
    values = quantized_law(num, p, mu, sigma, rectified=rectified).numpy()
    exact = (RectifiedGeneralizedGaussian if rectified else GeneralizedGaussian)(p, mu, sigma)
    np.testing.assert_allclose(values.mean(), float(exact.mean.double()), rtol=1e-5, atol=1e-6)
    assert values.shape == (num,)
    assert (np.diff(values) >= -1e-12 * sigma).all()
    assert values.var() <= float(exact.variance) * (1 + 1e-5) + 1e-9


def test_many_values_approach_the_law():
    values = quantized_law(4096, 1.0, -1.0, 0.7071).numpy()
    law = RectifiedGeneralizedGaussian(1.0, -1.0, 0.7071)
    assert np.mean(values > 0) == pytest.approx(float(law.active_fraction), abs=1 / 4096)
    assert values.var() == pytest.approx(float(law.variance), rel=5e-3)
    middle = gennorm(1.0, -1.0, 0.7071).ppf((np.arange(3900, 4000) + 0.5) / 4096)
    np.testing.assert_allclose(values[3900:4000], middle, rtol=1e-3)


def test_no_batch_of_as_many_values_is_nearer_to_the_law():
    values = quantized_law(6, 2.0, -0.5, 1.0).numpy()
    quantiles = np.maximum(0, gennorm(2.0, -0.5, 1.0).ppf((np.arange(60_000) + 0.5) / 60_000))

    def distance(batch):
        """W₂² by the integral over quantiles."""
        return np.mean((np.repeat(np.sort(batch), 10_000) - quantiles) ** 2)

    generator = np.random.default_rng(0)
    assert all(distance(values + 0.01 * generator.standard_normal(6)) > distance(values) for _ in range(20))


def test_needs_a_value():
    with pytest.raises(ValueError, match="at least 1 value, got 0"):
        quantized_law(0, 2.0, 0.0, 1.0)
