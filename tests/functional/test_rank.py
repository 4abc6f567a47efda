"""Ranks, covariances and cosines, against NumPy and what is known of random matrices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.functional.rank import (
    covariance,
    distance_to_isotropy,
    effective_rank,
    marchenko_pastur_edges,
    mean_absolute_cosine,
    rankme,
    singular_values,
)


def normal(samples, dim, seed=0):
    return torch.randn(samples, dim, dtype=torch.float64, generator=keyed_generator(seed, "test"))


@given(st.integers(0, 100), st.integers(1, 12), st.integers(1, 12))
def test_ranks_equal_a_plain_reference(seed, samples, dim):
    z = normal(samples, dim, seed)
    values = singular_values(z)
    reference = np.sqrt(np.linalg.eigvalsh((z @ z.T if samples < dim else z.T @ z).numpy()).clip(0))[::-1]
    np.testing.assert_allclose(values.numpy(), reference, atol=1e-6)
    assert effective_rank(values) == pytest.approx(math.exp(entropy(values.numpy())))  # SciPy normalises
    p = values.numpy() / values.numpy().sum() + 1e-7
    assert rankme(values) == pytest.approx(math.exp(-(p * np.log(p)).sum()))
    assert 1 - 1e-9 <= effective_rank(values) <= min(samples, dim) + 1e-9


def test_ranks_of_matrices_whose_rank_is_known():
    assert effective_rank(singular_values(torch.eye(7))) == pytest.approx(7)
    assert rankme(singular_values(torch.eye(7))) == pytest.approx(7, rel=1e-5)
    assert effective_rank(singular_values(torch.ones(50, 9))) == pytest.approx(1, abs=1e-6)
    assert rankme(singular_values(torch.ones(50, 9))) == pytest.approx(1, abs=1e-4)
    for rank in (rankme, effective_rank):
        assert rank(singular_values(torch.zeros(5, 3))) == 0
        # Fewer samples than features: there are N singular values, and no rank beyond N.
        assert rank(singular_values(torch.eye(4, 300))) == pytest.approx(4, rel=1e-5)
        assert rank(singular_values(normal(6, 300))) <= 6


@given(st.integers(0, 100), st.integers(2, 12), st.integers(1, 8))
def test_covariance_equals_numpy(seed, samples, dim):
    z = normal(samples, dim, seed) * torch.arange(1, dim + 1)
    matrix, described = covariance(z)
    reference = np.cov(z.numpy(), rowvar=False).reshape(dim, dim)
    np.testing.assert_allclose(matrix.numpy(), reference, atol=1e-9)
    np.testing.assert_allclose(described.eigenvalues.numpy(), np.linalg.eigvalsh(reference)[::-1], atol=1e-9)
    off = reference - np.diag(np.diag(reference))
    assert described.off_diagonal_energy == pytest.approx((off**2).sum() / (reference**2).sum(), abs=1e-9)
    mean = np.trace(reference) / dim
    distance = np.linalg.norm(reference - mean * np.eye(dim)) / np.linalg.norm(mean * np.eye(dim))
    assert described.anisotropy == pytest.approx(distance, abs=1e-9)
    assert distance_to_isotropy(matrix, 2.0) == pytest.approx(
        np.linalg.norm(reference - 2 * np.eye(dim)) / (2 * dim**0.5)
    )
    if samples > dim:
        assert described.condition == pytest.approx(np.linalg.cond(reference), rel=1e-6)
    else:
        assert described.condition == math.inf
        assert int((described.eigenvalues > 0).sum()) == samples - 1


def test_covariance_of_features_that_do_not_vary_and_of_one_sample():
    _, described = covariance(torch.full((4, 3), 0.1))
    assert described.eigenvalues.tolist() == pytest.approx([0, 0, 0], abs=1e-30)
    _, described = covariance(torch.zeros(4, 3))
    assert math.isnan(described.off_diagonal_energy)
    assert math.isnan(described.anisotropy)
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        covariance(torch.zeros(1, 3))


@pytest.mark.parametrize(("samples", "dim"), [(2000, 200), (200, 500)])
def test_eigenvalues_of_independent_features_lie_between_the_edges(samples, dim):
    _, described = covariance(normal(samples, dim) * 3)
    low, high = marchenko_pastur_edges(9.0, samples, dim)
    values = described.eigenvalues[described.eigenvalues > 0]
    assert low * 0.95 < values.min() < low * 1.15
    assert high * 0.9 < values.max() < high * 1.05


def test_cosines_of_independent_features_and_of_known_ones():
    z = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert mean_absolute_cosine(z) == pytest.approx(2**-0.5)  # a dead feature has no angle
    assert math.isnan(mean_absolute_cosine(z[:, :1]))
    assert mean_absolute_cosine(normal(1000, 100)) == pytest.approx((2 / (1000 * math.pi)) ** 0.5, rel=0.05)
    x = normal(50, 4)
    reference = np.abs(np.corrcoef(x.numpy(), rowvar=False))[np.triu_indices(4, 1)].mean()
    assert mean_absolute_cosine(x - x.mean(0)) == pytest.approx(reference)
