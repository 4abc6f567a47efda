"""HSIC, normal scores and total correlation, against plain formulas and closed forms of normal laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from nearest_neighbor_entropy import nearest_neighbor_entropy
from scipy.spatial.distance import pdist
from scipy.special import digamma
from scipy.stats import norm, rankdata
from sklearn.feature_selection import mutual_info_regression
from sklearn.metrics.pairwise import rbf_kernel

from rectified_lpjepa.functional import independence
from rectified_lpjepa.functional.independence import (
    gaussian_total_correlation,
    mean_of_pairs,
    median_bandwidth,
    normal_scores,
    normalized_hsic,
)

features = st_numpy.arrays(
    np.float64,
    st.tuples(st.integers(2, 9), st.integers(1, 4)),
    elements=st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0, -1.5]),
)


def correlated(samples: int, covariance: np.ndarray, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).multivariate_normal(np.zeros(len(covariance)), covariance, samples)
    )


def equicorrelated(dim: int, rho: float) -> np.ndarray:
    return (1 - rho) * np.eye(dim) + rho * np.ones((dim, dim))


@given(features)
def test_bandwidth_is_the_lower_median_of_the_distances_that_are_not_zero(x):
    for column, found in zip(x.T, median_bandwidth(torch.from_numpy(x)).tolist(), strict=True):
        distances = np.sort(pdist(column[:, None]))
        distances = distances[distances > 0]
        if len(distances):
            assert found == distances[(len(distances) - 1) // 2]
        else:
            assert math.isnan(found)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_hsic_does_not_depend_on_the_scale_of_a_feature(scale):
    x = torch.tensor([[0.0, 1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 5.0]]).T
    scaled = x * torch.tensor([scale, 1.0])
    found = normalized_hsic(scaled, median_bandwidth(scaled))
    torch.testing.assert_close(found, normalized_hsic(x, median_bandwidth(x)))


@pytest.mark.parametrize("block_numbers", [1, 50, 1 << 24])
@settings(max_examples=30)
@given(x=features)
def test_hsic_equals_the_trace_formula(x, block_numbers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(independence, "_BLOCK_NUMBERS", block_numbers)
        bandwidth = median_bandwidth(torch.from_numpy(x))
        found = normalized_hsic(torch.from_numpy(x), bandwidth)
    samples, dim = x.shape
    H = np.eye(samples) - 1 / samples
    kernels = [
        H @ rbf_kernel(x[:, [d]], gamma=1 / (2 * s**2)) @ H if s == s else np.zeros((samples, samples))
        for d, s in enumerate(bandwidth.tolist())
    ]
    for i in range(dim):
        for j in range(dim):
            K, L = kernels[i], kernels[j]
            norms = math.sqrt(np.trace(K @ K) * np.trace(L @ L))
            assert found[i, j].item() == pytest.approx(np.trace(K @ L) / norms if norms else 0.0, abs=1e-9)
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_hsic_of_gaussian_variables_tends_to_its_closed_form(rho):
    """By Gaussian integrals: E k(x,x') l(y,y') and its relatives are determinants to the power −½."""
    squared_bandwidth = 1.7

    def hsic(rho: float) -> float:
        covariance = np.array([[1, rho], [rho, 1]])
        joint = np.linalg.det(np.eye(2) + 2 * covariance / squared_bandwidth) ** -0.5
        product = 1 / (1 + 2 / squared_bandwidth)
        half = np.linalg.det(np.eye(2) + covariance / (1 + squared_bandwidth)) ** -0.5 / (1 + 1 / squared_bandwidth)
        return joint + product - 2 * half

    x = correlated(3000, np.array([[1, rho], [rho, 1]])).float()
    found = normalized_hsic(x, torch.full((2,), squared_bandwidth**0.5))
    # The samples of one variable alone are as if ρ were 1.
    assert found[0, 1].item() == pytest.approx(hsic(rho) / hsic(1.0), abs=0.01)


def test_hsic_sees_dependence_without_correlation_and_takes_constants_for_independent():
    x = torch.randn(400, generator=torch.Generator().manual_seed(0))
    hsic = normalized_hsic(torch.stack([x, x.square(), torch.ones(400)], 1), torch.tensor([1.0, 1.0, torch.nan]))
    assert hsic[0, 1] > 0.1
    assert hsic[2].tolist() == hsic[:, 2].tolist() == [0, 0, 0]


def test_hsic_of_sparse_float32_features_equals_that_in_float64():
    x = (torch.randn(200, 40, generator=torch.Generator().manual_seed(0)) - 1).relu()
    bandwidth = median_bandwidth(x)
    torch.testing.assert_close(
        normalized_hsic(x, bandwidth), normalized_hsic(x.double(), bandwidth.double()), rtol=1e-4, atol=1e-6
    )


def test_mean_of_pairs():
    matrix = torch.tensor([[9.0, 1.0, 2.0], [1.0, 9.0, 6.0], [2.0, 6.0, 9.0]])
    assert mean_of_pairs(matrix) == 3
    assert math.isnan(mean_of_pairs(matrix[:1, :1]))


@given(
    st_numpy.arrays(
        np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.floats(-5, 5), unique=True
    )
)
def test_normal_scores_without_ties_are_quantiles_of_ranks(x):
    expected = norm.ppf(rankdata(x, axis=0) / (len(x) + 1))
    np.testing.assert_allclose(normal_scores(torch.from_numpy(x), seed=0).numpy(), expected, atol=1e-12)


def test_normal_scores_break_ties_at_random_and_keep_the_order_of_the_rest():
    x = torch.tensor([0.0, 3.0, 0.0, 0.0, 1.0]).repeat(200, 1).T.contiguous()
    scores = normal_scores(x, seed=3)
    torch.testing.assert_close(scores, normal_scores(x, seed=3), rtol=0, atol=0)
    assert scores[1].eq(scores.max()).all()
    assert scores[4].eq(scores[1].clone().fill_(float(norm.ppf(4 / 6)))).all()
    ties = scores[[0, 2, 3]]
    assert sorted(ties[:, 0].tolist()) == pytest.approx(norm.ppf(np.arange(1, 4) / 6).tolist())
    # Each order of three ties should come about as often as the others.
    assert (ties.argsort(0).unique(dim=1, return_counts=True)[1] > 15).all()


@pytest.mark.parametrize(("dim", "rho"), [(2, 0.6), (30, 0.0), (30, 0.4), (90, 0.2)])
def test_total_correlation_of_gaussians_has_no_bias(dim, rho):
    """−½ ln det R, and det R = (1 − ρ)^{D−1} (1 + (D − 1) ρ); the raw estimate is off by about D²/(4N)."""
    true = -0.5 * ((dim - 1) * math.log(1 - rho) + math.log(1 + (dim - 1) * rho))
    estimates = [gaussian_total_correlation(correlated(120, equicorrelated(dim, rho), seed)) for seed in range(60)]
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(true, abs=4 * error)
    assert 4 * error < 0.25 * dim**2 / (4 * 120) + 0.05


@pytest.mark.parametrize(("samples", "dim"), [(12, 2), (40, 7), (30, 29)])
def test_total_correlation_equals_a_plain_reference(samples, dim):
    """From ranks by SciPy, correlations and a determinant by NumPy, and E ln det of the Wishart law as its sum."""
    x = correlated(samples, equicorrelated(dim, 0.3)).numpy() ** 3
    R = np.corrcoef(norm.ppf(rankdata(x, axis=0) / (samples + 1)), rowvar=False)
    bias = sum(digamma((samples - i) / 2) - digamma((samples - 1) / 2) for i in range(1, dim + 1))
    expected = -0.5 * (np.linalg.slogdet(R)[1] - bias)
    found = gaussian_total_correlation(normal_scores(torch.from_numpy(x), seed=0))
    assert found == pytest.approx(expected, rel=1e-9)


def test_total_correlation_is_the_sum_of_marginal_entropies_less_the_joint_one():
    """Both by distances to neighbours, which know nothing of normal laws; of two features it is their information."""
    x = correlated(6000, equicorrelated(3, 0.7))
    true = -0.5 * math.log(0.3**2 * 2.4)
    for features in (x, x.exp(), x + x.tanh()):
        marginal = sum(nearest_neighbor_entropy(features[:, [d]].numpy()) for d in range(3))
        by_distances = marginal - nearest_neighbor_entropy(features.numpy())
        found = gaussian_total_correlation(normal_scores(features, seed=0))
        assert found == pytest.approx(true, abs=0.03)
        assert found == pytest.approx(by_distances, abs=0.08)
    pair = x[:3000, :2]
    information = mutual_info_regression(pair[:, :1].numpy(), pair[:, 1].numpy(), random_state=0)[0]
    assert gaussian_total_correlation(normal_scores(pair, seed=0)) == pytest.approx(information, abs=0.05)


def test_total_correlation_of_scores_does_not_depend_on_the_marginals():
    x = correlated(4000, equicorrelated(3, 0.5))
    true = -0.5 * (2 * math.log(0.5) + math.log(2))
    estimates = [gaussian_total_correlation(normal_scores(y, seed=0)) for y in (x, x.exp(), x**3)]
    assert estimates[0] == estimates[1] == estimates[2]
    assert estimates[0] == pytest.approx(true, abs=0.03)


def test_total_correlation_of_rectified_features_is_positive_and_smaller():
    """A rectifier keeps no more than there is (the data-processing inequality), and random ties add nothing."""
    x = correlated(4000, equicorrelated(5, 0.5))
    before, behind = (gaussian_total_correlation(normal_scores(y, seed=0)) for y in (x, x.relu()))
    assert 0.1 * before < behind < before
    independent = correlated(4000, np.eye(5)).relu()
    assert abs(gaussian_total_correlation(normal_scores(independent, seed=0))) < 0.01


def test_total_correlation_where_it_is_undefined_or_infinite():
    x = correlated(20, np.eye(20))
    assert math.isnan(gaussian_total_correlation(x))
    assert math.isfinite(gaussian_total_correlation(x[:, :19]))
    assert gaussian_total_correlation(torch.cat([x[:, :5], x[:, :1]], 1)) == math.inf
    assert gaussian_total_correlation(x[:, :1]) == pytest.approx(0.0, abs=1e-12)
    # Dead features are independent of all.
    assert abs(gaussian_total_correlation(normal_scores(torch.zeros(2000, 10), seed=0))) < 0.05
