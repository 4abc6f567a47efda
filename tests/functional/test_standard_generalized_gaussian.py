"""The tail numerics against adaptive quadrature of the density, far into where the masses underflow."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from rectified_lpjepa.functional import standard_generalized_gaussian as standard

SHAPES = [0.25, 0.4, 0.75, 1.0, 1.3, 2.0, 3.0, 8.0]


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).squeeze()


def excess(x: float, m: float, p: float) -> float:
    """s = ((x + m)^p − m^p) / p, without cancellation."""
    return m**p * math.expm1(p * math.log1p(x / m)) / p if m > 0 else x**p / p


def tail_integral(weight, m: float, p: float) -> float:
    """∫ weight(x) e^{−s} dx over x > 0, by panels that follow the decay."""

    def x_of(s: float) -> float:
        return m * math.expm1(math.log1p(p * s / m**p) / p) if m > 0 else (p * s) ** (1 / p)

    edges = [0.0, *(x_of(s) for s in np.geomspace(1e-6, 700, 25))]
    panels = itertools.pairwise(edges)
    return math.fsum(
        quad(lambda x: weight(x) * math.exp(-excess(x, m, p)), lo, hi, epsabs=0, epsrel=1e-11)[0] for lo, hi in panels
    )


@pytest.mark.parametrize("p", SHAPES)
@pytest.mark.parametrize("m", [0.0, 1e-3, 0.5, 1.4, 2.0, 3.0, 6.0, 30.0])
def test_truncated_equals_quadrature(p, m):
    law = standard.truncated(f64(m), f64(p))
    mass = tail_integral(lambda _: 1.0, m, p)
    log_normalizer = math.log(2 * tail_integral(lambda _: 1.0, 0.0, p))
    t = m**p / p
    assert law.log_mass.item() == pytest.approx(math.log(mass) - t - log_normalizer, rel=1e-12, abs=1e-10)
    assert law.mean.item() == pytest.approx(tail_integral(lambda x: x, m, p) / mass, rel=1e-9)
    assert law.second_moment.item() == pytest.approx(tail_integral(lambda x: x**2, m, p) / mass, rel=1e-9)
    entropy = math.log(mass) + tail_integral(lambda x: excess(x, m, p), m, p) / mass
    assert law.entropy.item() == pytest.approx(entropy, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("p", SHAPES)
def test_both_branches_meet(p):
    """The closed forms and the quadrature agree on either side of the switch at t = FAR."""
    m = (p * standard.FAR * torch.tensor([1 - 1e-12, 1 + 1e-12], dtype=torch.float64)) ** (1 / p)
    for name, (below, above) in standard.truncated(m, f64(p))._asdict().items():
        assert below.item() == pytest.approx(above.item(), rel=1e-10), name
    below, above = standard.log_cdf(-m, f64(p))
    assert below.item() == pytest.approx(above.item(), rel=1e-10)


@pytest.mark.parametrize("p", SHAPES)
def test_log_cdf_equals_logarithm_of_cdf_where_that_exists(p):
    z = torch.linspace(-8, 8, 201, dtype=torch.float64)
    cdf = standard.cdf(z, f64(p))
    exists = cdf > 1e-290
    torch.testing.assert_close(standard.log_cdf(z, f64(p))[exists], cdf[exists].log(), rtol=1e-12, atol=1e-12)
    assert standard.log_cdf(z, f64(p)).isfinite().all()


@pytest.mark.parametrize("p", SHAPES)
def test_quantile_and_cdf_at_the_ends(p):
    q = f64(0.0, 0.5, 1.0, -0.1, 1.1)
    quantile = standard.quantile(q, f64(p))
    assert quantile[:3].tolist() == [-math.inf, 0.0, math.inf]
    assert quantile[3:].isnan().all()
    assert standard.cdf(quantile[:3], f64(p)).tolist() == [0.0, 0.5, 1.0]


def test_gradients_of_cdf_and_log_cdf():
    p = torch.tensor([0.25, 0.7, 1.0, 1.5, 2.0, 8.0], dtype=torch.float64)[:, None]
    z = torch.tensor([-2.3, -1.1, -0.3, 0.4, 1.7, 2.2], dtype=torch.float64, requires_grad=True)
    for function in (standard.cdf, standard.log_cdf):
        assert torch.autograd.gradcheck(lambda z, f=function: f(z, p), (z,))
    # In the far tail a normal law's log-cdf has the slope |z| (1 + 1/z² …); at zero the density is the slope.
    z = torch.tensor([-40.0, 0.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(standard.log_cdf(z, f64(2.0)).sum(), z)
    assert slope[0].item() == pytest.approx(40 + 1 / 40, rel=1e-4)
    assert slope[1].item() == pytest.approx(2 / math.sqrt(2 * math.pi), rel=1e-12)


def test_cdf_refuses_a_gradient_for_the_shape():
    p = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    with pytest.raises(NotImplementedError, match="not differentiable in its shape"):
        standard.cdf(f64(0.3), p).backward()
