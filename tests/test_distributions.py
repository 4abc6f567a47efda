"""The two laws as torch distributions: shapes, validation, sampling, and the rectified law's point mass."""

import doctest
import itertools
import math

import numpy as np
import pytest
import torch
from gennorm import gennorm
from scipy import stats
from scipy.integrate import quad

from rectified_lpjepa import distributions
from rectified_lpjepa.distributions import GeneralizedGaussian, RectifiedGeneralizedGaussian
from rectified_lpjepa.functional.generalized_gaussian import sigma_gn

BOTH = pytest.mark.parametrize("law_class", [GeneralizedGaussian, RectifiedGeneralizedGaussian])


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_doctests():
    assert doctest.testmod(distributions) == doctest.TestResults(failed=0, attempted=4)


class TestParameters:
    @BOTH
    def test_shapes_and_dtypes(self, law_class):
        law = law_class(2.0, torch.zeros(3, 1), torch.ones(4))
        assert law.batch_shape == (3, 4)
        assert law.event_shape == ()
        assert law.sample((5,)).shape == (5, 3, 4)
        assert law.sample().shape == (3, 4)
        for value in (law.mean, law.variance, law.stddev, law.entropy(), law.active_fraction, law.icdf(law.mean * 0)):
            assert value.shape == (3, 4)
            assert value.dtype == torch.float32
        assert law_class(2.0, f64(0.0), f64(1.0)).sample().dtype == torch.float64

    @BOTH
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
    def test_coarse_dtypes_are_widened(self, law_class, dtype):
        law = law_class(torch.tensor([2, 1], dtype=dtype), torch.tensor([-1, 0], dtype=dtype), 1)
        reference = law_class(torch.tensor([2.0, 1.0]), torch.tensor([-1.0, 0.0]), 1.0)
        for value in (law.sample(), law.mean, law.entropy(), law.log_prob(torch.ones(2, dtype=dtype))):
            assert value.dtype == torch.float32
        assert torch.equal(law.variance, reference.variance)

    def test_mixed_dtypes_promote(self):
        law = GeneralizedGaussian(torch.tensor(2.0), f64(0.0).squeeze(), 1.0)
        assert law.p.dtype == law.loc.dtype == law.scale.dtype == torch.float64

    @BOTH
    @pytest.mark.parametrize(
        ("p", "loc", "scale", "message"),
        [
            (0.0, 0.0, 1.0, r"parameter p .* GreaterThan\(lower_bound=0.0\).*\n0.0"),
            (-1.0, 0.0, 1.0, r"parameter p .* GreaterThan\(lower_bound=0.0\).*\n-1.0"),
            (2.0, math.nan, 1.0, r"parameter loc .* Real\(\).*\nnan"),
            (2.0, 0.0, torch.tensor([1.0, -3.0]), r"parameter scale .* GreaterThan\(lower_bound=0.0\).*\n.*-3"),
        ],
    )
    def test_bad_parameters(self, law_class, p, loc, scale, message):
        with pytest.raises(ValueError, match=message):
            law_class(p, loc, scale, validate_args=True)

    @BOTH
    def test_expand(self, law_class):
        law = law_class(torch.tensor([0.7, 2.0]), torch.tensor([-1.0, 0.5]), 1.5, validate_args=True)
        wide = law.expand((3, 2))
        assert type(wide) is law_class
        assert wide.batch_shape == (3, 2)
        assert wide._validate_args
        assert torch.equal(wide.variance, law.variance.expand(3, 2))
        assert torch.equal(wide.sample((4,), generator=seeded()), law.sample((4, 3), generator=seeded()))
        x = wide.sample((50,), generator=seeded())
        assert not torch.equal(x[:, 0], x[:, 1])  # expanded entries are draws of their own

    def test_support_and_constraints(self):
        x = torch.tensor([-1.0, 0.0, 2.0])
        assert GeneralizedGaussian(2.0, 0.0, 1.0).support.check(x).all()
        assert RectifiedGeneralizedGaussian(2.0, 0.0, 1.0).support.check(x).tolist() == [False, True, True]
        assert set(GeneralizedGaussian.arg_constraints) == {"p", "loc", "scale"}


class TestSampling:
    @BOTH
    def test_generator(self, law_class):
        law = law_class(torch.tensor([0.6, 1.0, 2.0]), 0.2, 1.0)
        before = torch.get_rng_state()
        assert torch.equal(law.sample((9,), generator=seeded(1)), law.sample((9,), generator=seeded(1)))
        assert not torch.equal(law.sample((9,), generator=seeded(1)), law.sample((9,), generator=seeded(2)))
        assert torch.equal(torch.get_rng_state(), before)

    @BOTH
    def test_no_gradient(self, law_class):
        loc = torch.zeros(3, requires_grad=True)
        assert not law_class(2.0, loc, 1.0).sample().requires_grad

    @pytest.mark.parametrize("p", [0.25, 1.0, 2.0, 8.0])
    def test_plain_draws_follow_the_law(self, p):
        x = GeneralizedGaussian(p, 0.7, 1.4).sample((40_000,), generator=seeded())
        assert stats.kstest(x.double().numpy(), gennorm(p, 0.7, 1.4).cdf).pvalue > 1e-3

    @pytest.mark.parametrize(("p", "loc"), [(0.5, 0.0), (1.0, -1.0), (2.0, -0.5), (8.0, 0.3)])
    def test_rectified_draws_follow_the_law(self, p, loc):
        law, reference, n = RectifiedGeneralizedGaussian(p, loc, 1.0), gennorm(p, loc, 1.0), 40_000
        x = law.sample((n,), generator=seeded()).double().numpy()
        silent = reference.cdf(0.0)
        assert x.min() == 0
        assert stats.binomtest(int((x == 0).sum()), n, silent).pvalue > 1e-3
        assert stats.kstest(x[x > 0], lambda v: (reference.cdf(v) - silent) / (1 - silent)).pvalue > 1e-3
        # within five standard errors, the fourth moment bounding that of the variance
        assert law.mean.item() == pytest.approx(x.mean(), abs=5 * x.std() / n**0.5)
        error = np.sqrt(np.mean((x - x.mean()) ** 4) / n)
        assert law.variance.item() == pytest.approx(x.var(), abs=5 * error)
        assert law.stddev.item() == pytest.approx(law.variance.item() ** 0.5, rel=1e-6)
        assert law.active_fraction.item() == pytest.approx((x > 0).mean(), abs=5 * 0.5 / n**0.5)


class TestPlainLaw:
    def test_equals_scipy(self):
        law, reference = GeneralizedGaussian(0.75, f64(-0.4), 1.3), gennorm(0.75, -0.4, 1.3)
        x = f64(-5, -0.4, 0, 2)
        np.testing.assert_allclose(law.log_prob(x), reference.logpdf(x), rtol=1e-12)
        np.testing.assert_allclose(law.cdf(x), reference.cdf(x), rtol=1e-12)
        np.testing.assert_allclose(law.icdf(law.cdf(x)), x, atol=1e-12)
        assert law.mean.item() == -0.4
        assert law.variance.item() == pytest.approx(reference.var(), rel=1e-12)
        assert law.entropy().item() == pytest.approx(reference.entropy(), rel=1e-12)
        assert law.active_fraction.item() == 1

    def test_equals_normal_and_laplace_of_torch(self):
        x = torch.linspace(-4, 4, 9)
        for p, reference in ((2.0, torch.distributions.Normal(0.3, 0.8)), (1.0, torch.distributions.Laplace(0.3, 0.8))):
            law = GeneralizedGaussian(p, 0.3, 0.8)
            torch.testing.assert_close(law.log_prob(x), reference.log_prob(x))
            torch.testing.assert_close(law.cdf(x), reference.cdf(x))
            torch.testing.assert_close(law.variance, reference.variance)
            torch.testing.assert_close(law.entropy(), reference.entropy())

    @pytest.mark.parametrize("method", ["log_prob", "cdf"])
    def test_nan_is_refused(self, method):
        with pytest.raises(ValueError, match="to be within the support"):
            getattr(GeneralizedGaussian(2.0, 0.0, 1.0, validate_args=True), method)(torch.tensor([0.0, math.nan]))


class TestRectifiedLaw:
    def test_log_prob_below_at_and_above_zero(self):
        law = RectifiedGeneralizedGaussian(1.0, f64(-1.0), 0.5)
        reference = gennorm(1.0, -1.0, 0.5)
        log_prob = law.log_prob(f64(-0.1, 0.0, -0.0, 0.2, 30.0, math.nan))
        assert log_prob[0] == -math.inf
        np.testing.assert_allclose(log_prob[1:3], reference.logcdf(0.0), rtol=1e-12)
        np.testing.assert_allclose(log_prob[3:5], reference.logpdf([0.2, 30.0]), rtol=1e-12)
        assert log_prob[5].isnan()

    def test_log_prob_has_the_precision_of_the_finer_of_value_and_parameters(self):
        law = RectifiedGeneralizedGaussian(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -2.0]), 1.0)
        for value in (0.0, 0.25):
            fine, coarse = law.log_prob(f64(value)), law.log_prob(torch.tensor([value]))
            assert (fine.dtype, coarse.dtype) == (torch.float64, torch.float32)
            exact = [gennorm(1.0, -1.0, 1.0), gennorm(2.0, -2.0, 1.0)]
            exact = [e.logpdf(value) if value else e.logcdf(0.0) for e in exact]
            np.testing.assert_allclose(fine, exact, rtol=1e-12)
            np.testing.assert_allclose(coarse, exact, rtol=1e-6)

    def test_point_mass_too_small_for_its_logarithm(self):
        """At mu/sigma = 6, p = 8, the mass at zero is exp(−209952 …): its log-probability is still exact."""
        log_mass = RectifiedGeneralizedGaussian(8.0, f64(6.0), 1.0).log_prob(f64(0.0)).item()
        # Q(a, t) ≈ t^{a−1} e^{−t} / Γ(a) for t as large as this
        t, a = 6**8 / 8, 1 / 8
        assert log_mass == pytest.approx(-t + (a - 1) * math.log(t) - math.lgamma(a) - math.log(2), rel=1e-10)

    @pytest.mark.parametrize("p", [0.5, 2.0])
    def test_total_mass_is_one(self, p):
        law = RectifiedGeneralizedGaussian(p, f64(-0.3), 1.0)
        edges = [1e-300, *law.icdf(f64(0.7, 0.8, 0.9, 0.99, 0.999, 1 - 1e-5, 1 - 1e-9)).tolist()]
        density = sum(
            quad(lambda x: law.log_prob(f64(x)).exp().item(), lo, hi)[0] for lo, hi in itertools.pairwise(edges)
        )
        assert law.log_prob(f64(0.0)).exp().item() + density == pytest.approx(1, abs=2e-9)

    def test_cdf_on_the_whole_line(self):
        law, reference = RectifiedGeneralizedGaussian(0.75, f64(0.3), 1.2), gennorm(0.75, 0.3, 1.2)
        x = f64(-math.inf, -3, -1e-30, 0, 0.1, 4, math.inf)
        np.testing.assert_allclose(law.cdf(x), [0, 0, 0, *reference.cdf(x[3:])], rtol=1e-12)
        assert law.cdf(f64(math.nan)).isnan()

    def test_icdf_inverts_cdf_above_the_point_mass(self):
        law = RectifiedGeneralizedGaussian(1.5, f64(-0.5), 1.0)
        mass = law.cdf(f64(0.0)).item()
        q = f64(0.0, mass / 2, mass, (1 + mass) / 2, 1 - 1e-9, 1.0)
        x = law.icdf(q)
        assert x[:3].abs().max() < 1e-12
        np.testing.assert_allclose(law.cdf(x[3:]), q[3:], rtol=1e-12)
        assert x[-1] == math.inf

    def test_gradients_do_not_leak_through_the_branches(self):
        for p in (0.5, 1.0, 1.5, 2.0):
            x = torch.tensor([-1.0, 0.0, 0.7], requires_grad=True)
            loc = torch.zeros(3, requires_grad=True)
            law = RectifiedGeneralizedGaussian(p, loc, 1.0)
            grad_x, grad_loc = torch.autograd.grad(law.log_prob(x).sum(), (x, loc))
            plain = GeneralizedGaussian(p, 0.0, 1.0)
            assert grad_x.tolist() == pytest.approx([0, 0, -(0.7 ** (p - 1))], rel=1e-6)
            # d/dloc ln Φ(−loc) = −f(0) / Φ(0)
            slope = -2 * plain.log_prob(torch.tensor(0.0)).exp().item()
            assert grad_loc.tolist() == pytest.approx([0, slope, 0.7 ** (p - 1)], rel=1e-6)
            assert torch.autograd.grad(law.cdf(x).sum(), x)[0].isfinite().all()

    def test_nothing_is_left_where_the_active_fraction_underflows(self):
        for dtype in (torch.float32, torch.float64):
            law = RectifiedGeneralizedGaussian(torch.tensor(8.0, dtype=dtype), -6.0, 1.0)
            for value in (law.active_fraction, law.mean, law.variance, law.stddev, law.entropy()):
                assert value.dtype == dtype
                assert value.item() == 0
            assert law.log_prob(torch.tensor(0.0)).item() == 0

    def test_entropy_of_published_targets(self):
        p, mu = f64(2, 1, 2, 1), f64(0, 0, -1, -1)
        law = RectifiedGeneralizedGaussian(p, mu, sigma_gn(p))
        np.testing.assert_allclose(law.entropy(), [1.0560, 1.0199, 0.4915, 0.4494], atol=5.1e-5)
