"""GN and RGN against scipy.stats.gennorm, numerical integration, published values, and their own identities."""

import itertools
import math

import numpy as np
import pytest
import torch
from gennorm import SHAPES, gennorm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.integrate import quad

from rectified_lpjepa.functional import generalized_gaussian as gg

GRID = [(p, mu, sigma) for p in SHAPES for mu, sigma in [(0.0, 1.0), (1.3, 0.4), (-2.1, 1.7), (-0.3, 2.0)]]

shapes = st.floats(0.25, 8)
locations = st.floats(-6, 6)
scales = st.floats(0.05, 20)
examples = settings(max_examples=80, derandomize=True)


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


class TestAgainstScipy:
    @pytest.mark.parametrize(("p", "mu", "sigma"), GRID)
    def test_log_prob_cdf_icdf(self, p, mu, sigma):
        reference = gennorm(p, mu, sigma)
        x = mu + sigma * np.array([-9.0, -3.0, -1.0, -0.2, 0.0, 0.3, 1.0, 2.5, 9.0])
        np.testing.assert_allclose(gg.log_prob(torch.from_numpy(x), p, mu, sigma), reference.logpdf(x), rtol=1e-11)
        np.testing.assert_allclose(gg.cdf(torch.from_numpy(x), p, mu, sigma), reference.cdf(x), rtol=1e-11, atol=1e-15)
        q = np.array([1e-9, 1e-3, 0.2, 0.49, 0.5, 0.6, 0.97, 0.9999])
        np.testing.assert_allclose(gg.icdf(torch.from_numpy(q), p, mu, sigma), reference.ppf(q), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize(("p", "mu", "sigma"), GRID)
    def test_variance_and_entropy(self, p, mu, sigma):
        reference = gennorm(p, mu, sigma)
        assert gg.variance(p, sigma).item() == pytest.approx(reference.var(), rel=1e-12)
        assert gg.entropy(p, sigma).item() == pytest.approx(reference.entropy(), rel=1e-12)

    def test_tails(self):
        """Log-densities and left tails far beyond what a difference from one could show."""
        assert gg.log_prob(-1e6, 1.0, 0.0, 1.0).item() == pytest.approx(-1e6 - math.log(2), rel=1e-15)
        assert gg.log_prob(40.0, 8.0, 0.0, 1.0).item() == pytest.approx(-(40**8) / 8, rel=1e-11)
        assert gg.cdf(-30.0, 2.0, 0.0, 1.0).item() == pytest.approx(stats.norm.cdf(-30), rel=1e-11)
        assert gg.log_cdf(-1e4, 2.0, 0.0, 1.0).item() == pytest.approx(stats.norm.logcdf(-1e4), rel=1e-12)
        assert gg.icdf(1e-300, 2.0, 0.0, 1.0).item() == pytest.approx(stats.norm.ppf(1e-300), rel=1e-11)
        assert gg.icdf(1e-300, 1.0, 0.0, 1.0).item() == pytest.approx(math.log(2e-300), rel=1e-12)


class TestAgainstIntegration:
    """E g(X) 1{X > 0} by adaptive quadrature of the definition of the density."""

    @staticmethod
    def integral(weight, p: float, mu: float, sigma: float) -> float:
        log_norm = (1 - 1 / p) * math.log(p) - math.log(2 * sigma) - math.lgamma(1 / p)
        reach = sigma * (p * np.geomspace(4e-3, 700, 30)) ** (1 / p)
        edges = np.unique(np.clip(np.concatenate([mu - reach, [mu], mu + reach, [0.0]]), 0, None))

        def integrand(x: float) -> float:
            log_density = log_norm - abs((x - mu) / sigma) ** p / p
            return weight(x, log_density) * math.exp(log_density)

        parts = (quad(integrand, lo, hi, epsabs=1e-14, epsrel=1e-10)[0] for lo, hi in itertools.pairwise(edges))
        return math.fsum(parts)

    @pytest.mark.parametrize(("p", "mu", "sigma"), [g for g in GRID if g[0] in (0.25, 0.75, 1.0, 2.0, 8.0)])
    def test_moments_and_entropies(self, p, mu, sigma):
        active = self.integral(lambda *_: 1.0, p, mu, sigma)
        mean = self.integral(lambda x, _: x, p, mu, sigma)
        second = self.integral(lambda x, _: x * x, p, mu, sigma)
        cross_entropy = -self.integral(lambda _, log_density: log_density, p, mu, sigma)
        assert gg.active_fraction(p, mu, sigma).item() == pytest.approx(active, rel=1e-8)
        assert gg.rectified_mean(p, mu, sigma).item() == pytest.approx(mean, rel=1e-8)
        assert gg.rectified_second_moment(p, mu, sigma).item() == pytest.approx(second, rel=1e-8)
        assert gg.rectified_variance(p, mu, sigma).item() == pytest.approx(second - mean**2, rel=1e-7)
        # The active part contributes −∫ f ln f, the point mass −(1 − ρ) ln(1 − ρ); H₁ is taken given activity.
        silent = max(1 - active, 0.0)
        assert gg.rectified_entropy(p, mu, sigma).item() == pytest.approx(
            cross_entropy + special.entr(silent), rel=1e-7, abs=1e-8
        )
        assert gg.truncated_entropy(p, mu, sigma).item() == pytest.approx(
            cross_entropy / active + math.log(active), rel=1e-7, abs=1e-8
        )


class TestPublishedValues:
    @pytest.mark.parametrize(
        ("mu", "expected"),
        [
            (1.0, [0.841, 0.878, 0.896, 0.921, 0.962]),
            (0.0, [0.5, 0.5, 0.5, 0.5, 0.5]),
            (-1.0, [0.159, 0.122, 0.104, 0.079, 0.038]),
            (-2.0, [0.023, 0.030, 0.030, 0.026, 0.015]),
        ],
    )
    def test_active_fractions(self, mu, expected):
        p = f64(2, 1, 0.75, 0.5, 0.25)
        np.testing.assert_allclose(gg.active_fraction(p, mu, gg.sigma_gn(p)), expected, atol=5.2e-4)

    def test_active_fractions_far_out(self):
        p = f64(2, 1, 0.75, 0.5, 0.25)
        expected = [0.0013, 0.0072, 0.0094, 0.0109, 0.0081]
        np.testing.assert_allclose(gg.active_fraction(p, -3.0, gg.sigma_gn(p)), expected, atol=5.1e-5)

    def test_active_fractions_of_the_published_sweep(self):
        mu = f64(1, 0.5, 0, -0.5, -1, -1.5, -2, -2.5, -3)
        normal = [0.841, 0.691, 0.5, 0.309, 0.159, 0.067, 0.023, 0.006, 0.001]
        laplace = [0.878, 0.753, 0.5, 0.247, 0.122, 0.060, 0.030, 0.015, 0.007]
        np.testing.assert_allclose(gg.active_fraction(2.0, mu, gg.sigma_gn(2.0)), normal, atol=5.1e-4)
        np.testing.assert_allclose(gg.active_fraction(1.0, mu, gg.sigma_gn(1.0)), laplace, atol=5.1e-4)

    def test_sigma_gn(self):
        expected = [1, 0.707107, 0.566148, 0.365148, 0.099252]
        np.testing.assert_allclose(gg.sigma_gn(f64(2, 1, 0.75, 0.5, 0.25)), expected, atol=5.1e-7)

    @pytest.mark.parametrize(
        ("p", "expected", "active_at_minus_3"),
        [
            (2.0, [1.2046, 1.7129, 2.3003, 2.8641, 3.3999], 0.189),
            (1.0, [0.8812, 1.1547, 1.4960, 1.8129, 2.1041], 0.120),
        ],
    )
    def test_sigma_rgn(self, p, expected, active_at_minus_3):
        sigma = gg.sigma_rgn(p, f64(1, 0, -1, -2, -3))
        np.testing.assert_allclose(sigma, expected, atol=5.1e-5)
        assert gg.active_fraction(p, -3.0, sigma[-1]).item() == pytest.approx(active_at_minus_3, abs=5.1e-4)

    @pytest.mark.parametrize(
        ("p", "mu", "entropy"), [(2.0, 0.0, 1.0560), (1.0, 0.0, 1.0199), (2.0, -1.0, 0.4915), (1.0, -1.0, 0.4494)]
    )
    def test_rectified_entropy(self, p, mu, entropy):
        assert gg.rectified_entropy(p, mu, gg.sigma_gn(p)).item() == pytest.approx(entropy, abs=5.1e-5)

    @pytest.mark.parametrize(("p", "mean", "variance"), [(2.0, 0.39894, 0.34085), (1.0, 0.35355, 0.375)])
    def test_moments_at_zero(self, p, mean, variance):
        sigma = gg.sigma_gn(p)
        assert gg.rectified_mean(p, 0.0, sigma).item() == pytest.approx(mean, abs=5.1e-6)
        assert gg.rectified_variance(p, 0.0, sigma).item() == pytest.approx(variance, abs=5.1e-6)


class TestProperties:
    @examples
    @given(shapes, locations, scales, st.floats(1e-12, 1, exclude_max=True))
    def test_cdf_inverts_icdf(self, p, mu, sigma, q):
        # About its centre the law is probed relative to mu, where x itself is rounded.
        x = gg.icdf(q, p, 0.0, sigma)
        assert gg.cdf(x, p, 0.0, sigma).item() == pytest.approx(q, rel=1e-9)
        assert gg.icdf(q, p, mu, sigma).item() == pytest.approx(x.item() + mu, rel=1e-12, abs=1e-12)

    @examples
    @given(shapes, locations, scales, st.lists(st.floats(-100, 100), min_size=2, max_size=20))
    def test_cdf_is_monotone_and_bounded(self, p, mu, sigma, x):
        cdf = gg.cdf(f64(*sorted(x)), p, mu, sigma)
        assert (cdf.diff() >= 0).all()
        assert (cdf >= 0).all()
        assert (cdf <= 1).all()

    @examples
    @given(shapes, locations, scales)
    def test_active_fraction_is_the_mass_above_zero(self, p, mu, sigma):
        active = gg.active_fraction(p, mu, sigma).item()
        assert active == pytest.approx(1 - gg.cdf(0.0, p, mu, sigma).item(), abs=1e-15)
        assert active == pytest.approx(gennorm(p, mu, sigma).sf(0.0), rel=1e-9, abs=1e-15)

    @examples
    @given(shapes, st.floats(1e-9, 1 - 1e-9), st.one_of(st.sampled_from(["gn", "rgn"]), scales))
    def test_mu_for_active_fraction_inverts_active_fraction(self, p, fraction, sigma):
        mu = gg.mu_for_active_fraction(p, fraction, sigma)
        scale = {"gn": gg.sigma_gn(p), "rgn": gg.sigma_rgn(p, mu)}[sigma] if isinstance(sigma, str) else sigma
        assert gg.active_fraction(p, mu, scale).item() == pytest.approx(fraction, rel=1e-9)

    @examples
    @given(shapes, locations)
    def test_rectified_variance_is_one_at_sigma_rgn(self, p, mu):
        assert gg.rectified_variance(p, mu, gg.sigma_rgn(p, mu)).item() == pytest.approx(1, rel=1e-11)

    @examples
    @given(shapes, st.floats(-6, 6), scales)
    def test_moments_and_entropies_over_the_whole_range(self, p, z, sigma):
        mu = z * sigma
        mean, second = gg.rectified_mean(p, mu, sigma), gg.rectified_second_moment(p, mu, sigma)
        variance = gg.rectified_variance(p, mu, sigma)
        assert mean >= max(mu, 0)
        assert 0 <= variance <= gg.variance(p, sigma) * (1 + 1e-12)
        assert variance.item() == pytest.approx((second - mean**2).item(), abs=1e-9 * max(second.item(), 1e-300))
        # Of all laws on the half line with that mean the exponential has the largest entropy: H₁ ≤ 1 + ln E[X | X > 0].
        active = gg.active_fraction(p, mu, sigma)
        if active > 1e-300:
            assert gg.truncated_entropy(p, mu, sigma) <= 1 + (mean / active).log() + 1e-9
        assert gg.rectified_entropy(p, mu, sigma).isfinite()

    def test_everything_vanishes_with_the_active_fraction(self):
        p, mu, sigma = f64(8, 8, 2), f64(-3, -6, -60), f64(1, 1, 1)
        for function in (
            gg.active_fraction,
            gg.rectified_mean,
            gg.rectified_second_moment,
            gg.rectified_variance,
            gg.rectified_entropy,
        ):
            assert function(p, mu, sigma).tolist() == [0, 0, 0], function.__name__
        # What little there is decays exponentially at rate |mu|^(p−1), so that its entropy tends to 1 − ln rate.
        rate = mu.abs() ** (p - 1)
        np.testing.assert_allclose(gg.truncated_entropy(p, mu, sigma), 1 - rate.log(), rtol=1e-3)

    def test_scale_family(self):
        """RGN(c μ, c σ) is c · RGN(μ, σ)."""
        p, mu, sigma = f64(*SHAPES), f64(*np.linspace(-3, 3, len(SHAPES))), 0.8
        torch.testing.assert_close(gg.rectified_mean(p, 3 * mu, 3 * sigma), 3 * gg.rectified_mean(p, mu, sigma))
        torch.testing.assert_close(gg.rectified_variance(p, 3 * mu, 3 * sigma), 9 * gg.rectified_variance(p, mu, sigma))
        shift = gg.truncated_entropy(p, 3 * mu, 3 * sigma) - gg.truncated_entropy(p, mu, sigma)
        torch.testing.assert_close(shift, torch.full_like(shift, math.log(3)))
