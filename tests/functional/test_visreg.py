"""VISReg's distance and standardised features, against SciPy."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from gradients import value_and_gradient
from hypothesis import given, settings
from sliced_problems import draw_without_target, problems_without_target

from rectified_lpjepa.functional import random_directions
from rectified_lpjepa.functional.visreg import sliced_wasserstein_to_normal, standardize


def plain_distance(z, directions):
    """The equation, for autograd, with SciPy's quantiles."""
    batch = z.shape[1]
    quantiles = torch.from_numpy(scipy.stats.norm.ppf(np.arange(1, batch + 1) / (batch + 1)))
    return ((directions @ z.mT).sort(dim=-1).values - quantiles).square().mean()


@settings(max_examples=30)
@given(problem=problems_without_target)
def test_distance_equals_the_equation(problem):
    z, directions = problem
    found = value_and_gradient(sliced_wasserstein_to_normal, z, directions)
    torch.testing.assert_close(found, value_and_gradient(plain_distance, z, directions), rtol=1e-10, atol=1e-13)


def test_float32_distance_stays_near_float64(threads):
    z, directions = draw_without_target(batch=200, num=1100)
    exact, exact_gradient = value_and_gradient(plain_distance, z, directions)
    value, gradient = value_and_gradient(sliced_wasserstein_to_normal, z.float(), directions.float())
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    assert (gradient - exact_gradient).norm() <= 1e-5 * exact_gradient.norm()


def test_distance_gradient_is_the_derivative():
    z, directions = draw_without_target(batch=4, dim=3, num=4)
    assert torch.autograd.gradcheck(lambda z: sliced_wasserstein_to_normal(z, directions), z.requires_grad_())


def test_distance_vanishes_on_the_quantiles_and_nearly_on_normal_samples():
    quantiles = scipy.stats.norm.ppf(np.arange(1, 100) / 100)
    z = torch.from_numpy(np.random.default_rng(0).permutation(quantiles)).view(1, 99, 1)
    assert sliced_wasserstein_to_normal(z, torch.ones(1, 1, dtype=torch.float64)) < 1e-28
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(1, 5000, 4, generator=generator)
    directions = random_directions(100, 4, generator=generator)
    assert sliced_wasserstein_to_normal(normal, directions) < 2e-3
    # W₂² between N(0, s²) and N(0, 1) is (s − 1)².
    assert sliced_wasserstein_to_normal(3 * normal, directions).item() == pytest.approx(4, rel=0.05)


def test_standardized_features_equal_scipys_scores():
    z, _ = draw_without_target(batch=40)
    found = standardize(z)
    scores = scipy.stats.zscore(z.numpy(), axis=1)
    std = z.numpy().std(axis=1, keepdims=True)
    np.testing.assert_allclose(found.z.numpy(), scores * std / (std + 1e-4), rtol=1e-10)
    np.testing.assert_allclose(found.location.item(), (z.numpy().mean(1) ** 2).mean(), rtol=1e-12)
    np.testing.assert_allclose(found.scale.item(), ((1 - std) ** 2).mean(), rtol=1e-12)


def test_the_standard_deviation_divides_without_a_gradient_and_the_scale_term_has_one():
    z, _ = draw_without_target(batch=4, dim=3)
    constant = z.std(1, correction=0, keepdim=True) + 1e-4
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(1), dtype=z.dtype)
    _, gradient = value_and_gradient(lambda z: (weights * standardize(z).z).sum(), z)
    torch.testing.assert_close(gradient, (weights - weights.mean(1, keepdim=True)) / constant)
    for name in ("location", "scale"):
        assert torch.autograd.gradcheck(lambda z, name=name: getattr(standardize(z), name), z.clone().requires_grad_())


def test_collapse_is_finite():
    z = torch.full((2, 8, 5), 0.4, requires_grad=True)
    found = standardize(z)
    (found.location + found.scale + sliced_wasserstein_to_normal(found.z, torch.eye(5))).backward()
    assert found.scale == 1
    assert z.grad.isfinite().all()
    assert (z.grad.std(1) > 1).all(), "the shape term spreads the samples"


def test_autocast_and_half_precision_compute_in_float32():
    z, directions = draw_without_target(dtype=torch.float32)
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found = standardize(z)
            results.append((*found, sliced_wasserstein_to_normal(found.z, directions)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
        assert one.dtype == torch.float32
    # Squares beyond the largest half-precision number.
    assert standardize(torch.full((1, 2, 1), 300.0, dtype=torch.float16)).location == 90_000


def test_a_broken_feature_breaks_the_distance():
    z, directions = draw_without_target()
    z[1, 7, 2] = math.nan
    assert not sliced_wasserstein_to_normal(z, directions).isfinite()
