"""SIGReg against its equation, an adaptive integral, and a closed form over the whole line."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch
from gradients import assert_autocast_changes_nothing, value_and_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from sliced_problems import draw_without_target, problems_without_target

from rectified_lpjepa.functional import random_directions
from rectified_lpjepa.functional.sigreg import sigreg

# B · E|φ_B(t) − exp(−t²/2)|² for normal projections is 1 − exp(−t²); its integral over the whole line:
UNDER_THE_NORMAL_LAW = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))


def plain_sigreg(z, directions, knots=17, upper=3.0):
    """The equation on both halves of the line, for autograd; (V, B, N, knots) in memory."""
    t = torch.linspace(-upper, upper, 2 * knots - 1, dtype=z.dtype)
    angles = torch.einsum("vbd,vnd->vbn", z, directions.expand(len(z), -1, -1))[..., None] * t
    normal = torch.exp(-t.square() / 2)
    squares = (angles.cos().mean(1) - normal).square() + angles.sin().mean(1).square()
    return z.shape[1] * torch.trapezoid(squares * normal, t).mean()


def closed_form(x):
    """The integral over the whole line for projections x (B,): BHEP's statistic (Henze and Zirkler 1990) with β = 1."""
    batch = len(x)
    pairs = np.exp(-((x[:, None] - x) ** 2) / 2).sum() / batch**2
    return batch * math.sqrt(2 * math.pi) * (pairs - math.sqrt(2) * np.exp(-(x**2) / 4).mean() + 1 / math.sqrt(3))


def test_equals_an_integral_over_the_whole_line_in_closed_form():
    z, directions = draw_without_target(views=3, batch=20)
    expected = np.mean([closed_form(view @ c) for view in z.numpy() for c in directions.numpy()])
    np.testing.assert_allclose(sigreg(z, directions, knots=200, upper=10.0).item(), expected, rtol=1e-10)
    # The 17 knots on [0, 3] leave out the tails of the window.
    np.testing.assert_allclose(sigreg(z, directions).item(), expected, rtol=0.03)


def test_equals_an_adaptive_integral_of_the_empirical_characteristic_function():
    z, directions = draw_without_target(views=1, num=1)
    x = (z[0] @ directions[0]).numpy()

    def integrand(t):
        return abs(np.exp(1j * t * x).mean() - math.exp(-(t**2) / 2)) ** 2 * math.exp(-(t**2) / 2)

    expected = len(x) * scipy.integrate.quad(integrand, -3, 3)[0]
    assert sigreg(z, directions, knots=2001).item() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=40)
@given(problem=problems_without_target, knots=st.integers(2, 20))
def test_equals_the_plain_version(problem, knots):
    z, directions = problem
    found = value_and_gradient(sigreg, z, directions, knots=knots)
    expected = value_and_gradient(plain_sigreg, z, directions, knots)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    assert found[0] >= 0


@pytest.mark.parametrize("batch", [40, 5000])
def test_float32_and_several_chunks_stay_near_float64(batch, threads):
    z, directions = draw_without_target(batch=batch, dim=8, num=20)
    exact, exact_gradient = value_and_gradient(plain_sigreg, z, directions)
    value, gradient = value_and_gradient(sigreg, z.float(), directions.float())
    assert value.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    assert (gradient - exact_gradient).norm() <= 1e-5 * exact_gradient.norm()


def test_gradient_is_the_derivative():
    z, directions = draw_without_target(batch=4, dim=3, num=4)
    assert torch.autograd.gradcheck(lambda z: sigreg(z, directions), z.requires_grad_())


def test_per_sample_it_vanishes_on_the_standard_normal_law_and_grows_away_from_it():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 8192, 6, generator=generator, dtype=torch.float64)
    directions = random_directions(50, 6, generator=generator, dtype=torch.float64)
    assert sigreg(z, directions) / 8192 < 3e-4
    for further in (lambda k: z + k, lambda k: z * (1 + k), lambda k: z / (1 + k)):
        values = torch.stack([sigreg(further(0.25 * k), directions) for k in range(5)])
        assert (values.diff() > 0).all()
        assert values[-1] > 100 * values[0]


def test_over_normal_samples_it_has_the_expectation_of_the_statistic():
    generator = torch.Generator().manual_seed(0)
    # Each view is a sample of its own.
    z = torch.randn(3000, 16, 2, generator=generator)
    directions = random_directions(8, 2, generator=generator)
    assert sigreg(z, directions, upper=8.0, knots=60).item() == pytest.approx(UNDER_THE_NORMAL_LAW, rel=0.05)


@pytest.mark.parametrize("centre", [0.0, 1.0])
def test_gradient_near_collapse_is_finite_and_spreads_the_samples(centre):
    generator = torch.Generator().manual_seed(0)
    noise = 1e-4 * torch.randn(2, 32, 5, generator=generator)
    directions = random_directions(300, 5, generator=generator)
    _, gradient = value_and_gradient(sigreg, centre + noise, directions)
    assert gradient.isfinite().all()
    spread = noise - noise.mean(1, keepdim=True)
    assert (-gradient * spread).sum() > 0.1 * spread.square().sum()
    if centre:
        # All equal: they move towards zero together.
        _, gradient = value_and_gradient(sigreg, torch.full((2, 32, 5), centre), directions)
        assert gradient.isfinite().all()
        assert (gradient > 1e-2).all()


def test_a_broken_feature_breaks_the_value():
    z, directions = draw_without_target()
    z[1, 7, 2] = math.nan
    assert sigreg(z, directions).isnan()


def test_autocast_changes_neither_value_nor_gradient():
    z, directions = draw_without_target(dtype=torch.float32)
    assert_autocast_changes_nothing(sigreg, z, directions)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_computes_the_same():
    z, directions = draw_without_target(batch=64, dim=16, num=300)
    expected, expected_gradient = value_and_gradient(sigreg, z, directions)
    value, gradient = value_and_gradient(sigreg, z.float().cuda(), directions.float().cuda())
    torch.testing.assert_close(value.double().cpu(), expected, rtol=1e-5, atol=0)
    assert (gradient.double().cpu() - expected_gradient).norm() < 1e-4 * expected_gradient.norm()


def test_errors():
    z, directions = draw_without_target()
    with pytest.raises(ValueError, match="at least 2 knots, got 1"):
        sigreg(z, directions, knots=1)
    for upper in (0.0, math.inf):
        with pytest.raises(ValueError, match=f"above 0, got {upper}"):
            sigreg(z, directions, upper=upper)
