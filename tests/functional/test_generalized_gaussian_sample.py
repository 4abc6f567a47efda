"""Draws of generalised Gaussians against SciPy's law."""

import pytest
import torch
from gennorm import SHAPES, gennorm
from scipy import stats

from rectified_lpjepa.functional import generalized_gaussian as gg


@pytest.mark.parametrize("as_tensor", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize("p", SHAPES)
def test_kolmogorov_smirnov(p, as_tensor):
    generator = torch.Generator().manual_seed(20)
    x = gg.sample(torch.tensor(p) if as_tensor else p, -0.4, 1.3, (40_000,), generator=generator)
    assert stats.kstest(x.double().numpy(), gennorm(p, -0.4, 1.3).cdf).pvalue > 1e-3


def test_kolmogorov_smirnov_can_fail():
    x = gg.sample(1.0, 0.0, 1.0, (40_000,), generator=torch.Generator().manual_seed(20))
    assert stats.kstest(x.double().numpy(), gennorm(1.15, 0.0, 1.0).cdf).pvalue < 1e-3


def test_parameters_broadcast_to_the_shape():
    p, mu, sigma = torch.tensor([[0.7], [3.0]]), torch.tensor([-1.0, 2.0]), 0.5
    x = gg.sample(p, mu, sigma, (20_000, 2, 2), generator=torch.Generator().manual_seed(3))
    for i in range(2):
        for j in range(2):
            reference = gennorm(p[i, 0].item(), mu[j].item(), sigma)
            assert stats.kstest(x[:, i, j].double().numpy(), reference.cdf).pvalue > 1e-3


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0])
def test_the_generator_decides(p):
    def draw(seed: int) -> torch.Tensor:
        return gg.sample(p, 0.0, 1.0, (50,), generator=torch.Generator().manual_seed(seed))

    before = torch.get_rng_state()
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("p", [1.0, 1.0001, 2.0])
def test_float32_tails_are_not_clipped(p):
    """Two million draws reach the quantile 1 − 1e-6; in half precision they would stop short of it."""
    x = gg.sample(p, 0.0, 1.0, (2**21,), generator=torch.Generator().manual_seed(4))
    assert gg.icdf(1 - 1e-6, p, 0.0, 1.0) < x.max() < gg.icdf(1 - 1e-9, p, 0.0, 1.0)
    assert gg.icdf(1e-9, p, 0.0, 1.0) < x.min() < gg.icdf(1e-6, p, 0.0, 1.0)


def test_dtype_device_and_gradient():
    mu = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    x = gg.sample(1.5, mu, 1.0, (2, 3))
    assert (x.dtype, x.shape, x.requires_grad) == (torch.float32, (2, 3), False)
    assert gg.sample(1.5, mu, 1.0, (2, 3), dtype=torch.float64).dtype == torch.float64
    assert gg.sample(2.0, 0.0, 1.0, (2, 3), device="meta").device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("p", SHAPES)
def test_cuda(p):
    generator = torch.Generator("cuda").manual_seed(20)
    x = gg.sample(p, -0.4, 1.3, (40_000,), generator=generator)
    assert x.device.type == "cuda"
    assert stats.kstest(x.double().cpu().numpy(), gennorm(p, -0.4, 1.3).cdf).pvalue > 1e-3
    for function in (gg.log_prob, gg.cdf, gg.log_cdf):
        torch.testing.assert_close(function(x, p, -0.4, 1.3).cpu(), function(x.cpu(), p, -0.4, 1.3))
    mu = torch.linspace(-6, 6, 49, dtype=torch.float64, device="cuda")
    for function in (gg.rectified_mean, gg.rectified_variance, gg.rectified_entropy, gg.active_fraction):
        torch.testing.assert_close(function(p, mu, 1.0).cpu(), function(p, mu.cpu(), 1.0))
