"""What the functions of GN and RGN take, numbers and tensors of any dtype and shape, and what they refuse."""

import math

import pytest
import torch

from rectified_lpjepa.functional import generalized_gaussian as gg


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


class TestTypes:
    FUNCTIONS = (
        (gg.log_prob, (-0.3, 1.5, 0.2, 0.7)),
        (gg.cdf, (-0.3, 1.5, 0.2, 0.7)),
        (gg.log_cdf, (-9.0, 1.5, 0.2, 0.7)),
        (gg.icdf, (0.3, 1.5, 0.2, 0.7)),
        (gg.variance, (1.5, 0.7)),
        (gg.entropy, (1.5, 0.7)),
        (gg.active_fraction, (1.5, -4.0, 0.7)),
        (gg.rectified_mean, (1.5, -4.0, 0.7)),
        (gg.rectified_second_moment, (1.5, -4.0, 0.7)),
        (gg.rectified_variance, (1.5, -4.0, 0.7)),
        (gg.rectified_entropy, (1.5, -4.0, 0.7)),
        (gg.truncated_entropy, (1.5, -4.0, 0.7)),
        (gg.sigma_gn, (1.5,)),
        (gg.sigma_rgn, (1.5, -4.0)),
        (gg.mu_for_active_fraction, (1.5, 0.1, 0.7)),
    )

    @pytest.mark.parametrize(("function", "arguments"), FUNCTIONS, ids=lambda v: getattr(v, "__name__", ""))
    def test_float32_is_float64_rounded_once(self, function, arguments):
        single = [torch.tensor([a, a]) for a in arguments]
        result = function(*single)
        assert result.dtype == torch.float32
        assert result.shape == (2,)
        assert torch.equal(result, function(*(a.double() for a in single)).float())

    @pytest.mark.parametrize(("function", "arguments"), FUNCTIONS, ids=lambda v: getattr(v, "__name__", ""))
    def test_numbers_give_a_float64_scalar(self, function, arguments):
        result = function(*arguments)
        assert result.dtype == torch.float64
        assert result.shape == ()
        assert torch.equal(result.expand(2), function(*(f64(a, a) for a in arguments)))

    def test_dtypes_promote_as_in_pytorch(self):
        x = torch.zeros(3)
        assert gg.cdf(x, 2.0, f64(0.0).squeeze(), 1.0).dtype == torch.float32
        assert gg.cdf(x, 2.0, f64(0.0), 1.0).dtype == torch.float64
        assert gg.cdf(x.bfloat16(), 2.0, 0.0, 1.0).dtype == torch.float32
        assert gg.cdf(x.long(), 2, 0, 1).dtype == torch.float32

    def test_arguments_broadcast(self):
        p, mu, sigma = f64(0.5, 2.0)[:, None, None], f64(-8.0, 0.0, 1.0)[:, None], f64(0.3, 1.0, 2.0, 3.0)
        for function in (gg.active_fraction, gg.rectified_variance, gg.rectified_entropy):
            table = function(p, mu, sigma)
            assert table.shape == (2, 3, 4)
            assert table[1, 0, 2] == function(2.0, -8.0, 2.0)
        assert gg.sigma_rgn(p, mu)[1, 1, 0] == pytest.approx(gg.sigma_rgn(2.0, 0.0).item(), rel=1e-13)
        assert gg.mu_for_active_fraction(p, f64(0.1, 0.9), "rgn").shape == (2, 1, 2)

    def test_gradients(self):
        x = torch.tensor([-2.2, -0.3, 0.4, 1.7], dtype=torch.float64, requires_grad=True)
        mu, sigma = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.1, 0.8))
        for p in (0.5, 1.0, 1.7, 2.0, 6.0):
            for function in (gg.log_prob, gg.cdf, gg.log_cdf):
                assert torch.autograd.gradcheck(
                    lambda x, mu, sigma, f=function, p=p: f(x, p, mu, sigma), (x, mu, sigma)
                )

    @pytest.mark.parametrize("p", [0.25, 1.0, 1.5, 8.0])
    def test_gradients_at_the_location_are_finite(self, p):
        x = torch.tensor([0.5], requires_grad=True)
        assert torch.autograd.grad(gg.log_prob(x, p, 0.5, 1.0), x)[0].item() == 0
        density = gg.log_prob(0.5, p, 0.5, 1.0).exp().item()
        assert torch.autograd.grad(gg.cdf(x, p, 0.5, 1.0), x)[0].item() == pytest.approx(density, rel=1e-6)


class TestErrors:
    @pytest.mark.parametrize("p", [0, -1.0, math.nan])
    def test_shape_not_positive(self, p):
        with pytest.raises(ValueError, match="p must be a positive number, got"):
            gg.sigma_gn(p)

    @pytest.mark.parametrize("sigma", [0.0, -2])
    def test_scale_not_positive(self, sigma):
        with pytest.raises(ValueError, match=f"sigma must be a positive number, got {sigma}"):
            gg.active_fraction(2.0, 0.0, sigma)
        with pytest.raises(ValueError, match=f"sigma must be a positive number, got {sigma}"):
            gg.sample(2.0, 0.0, sigma, (3,))
        with pytest.raises(ValueError, match=f"sigma must be a positive number, got {sigma}"):
            gg.mu_for_active_fraction(2.0, 0.5, sigma)

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, math.nan])
    def test_fraction_outside(self, fraction):
        with pytest.raises(ValueError, match=f"fraction must lie strictly between 0 and 1, got {fraction}"):
            gg.mu_for_active_fraction(2.0, fraction, "gn")

    def test_unknown_scale(self):
        with pytest.raises(ValueError, match="sigma must be a positive number, 'gn' or 'rgn', got 'unit'"):
            gg.mu_for_active_fraction(2.0, 0.5, "unit")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_draws(self, dtype):
        with pytest.raises(TypeError, match=f"float32 or torch.float64, got dtype={dtype}"):
            gg.sample(2.0, 0.0, 1.0, (3,), dtype=dtype)
