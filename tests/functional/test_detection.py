"""Detection quality against plain ranks and scikit-learn's curve; distances against scikit-learn's neighbours."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_curve
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from rectified_lpjepa.functional.detection import detection, neighbor_distances

SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=60).map(lambda values: torch.tensor(values).double())


def normal(samples: int, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    return shift + torch.randn(samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_separate_scores_are_told_apart() -> None:
    usual, unusual = torch.arange(40.0), torch.arange(50.0, 60.0)
    assert detection(usual, unusual) == (1.0, 1.0, 0.0)
    auroc, aupr, fpr95 = detection(unusual, usual)
    assert auroc == 0.0
    assert aupr < 0.8
    assert fpr95 == 1.0


def test_independent_scores_say_nothing() -> None:
    auroc, aupr, fpr95 = detection(normal(20_000), normal(5_000, seed=1))
    assert abs(auroc - 0.5) < 0.02
    assert abs(aupr - 0.2) < 0.02
    assert abs(fpr95 - 0.95) < 0.02


def test_shifted_normal_scores_have_the_closed_form() -> None:
    """AUROC = Φ(d / √2), and FPR@95 = Φ(Φ⁻¹(.95) − d)."""
    law = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    auroc, _, fpr95 = detection(normal(50_000), normal(50_000, shift=1.5, seed=1))
    assert abs(auroc - law.cdf(torch.tensor(1.5 / math.sqrt(2)))) < 0.005
    assert abs(fpr95 - law.cdf(law.icdf(torch.tensor(0.95)) - 1.5)) < 0.01


def test_a_constant_score() -> None:
    assert detection(torch.ones(30), torch.ones(10)) == (0.5, 0.25, 1.0)


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (0, 0)])
def test_one_kind_of_samples_alone_has_no_quality(sizes: tuple[int, int]) -> None:
    assert all(math.isnan(value) for value in detection(torch.ones(sizes[0]), torch.ones(sizes[1])))


@given(SCORES, SCORES)
def test_agrees_with_ranks_and_with_the_curve(usual: torch.Tensor, unusual: torch.Tensor) -> None:
    auroc, aupr, fpr95 = detection(usual, unusual)
    ranks = mannwhitneyu(unusual.numpy(), usual.numpy()).statistic / (len(usual) * len(unusual))
    assert auroc == pytest.approx(ranks)
    # Average precision: the sum over thresholds of precision times the gain in recall.
    expected, recall = 0.0, 0.0
    for threshold in sorted(set(torch.cat([usual, unusual]).tolist()), reverse=True):
        hits, alarms = (unusual >= threshold).sum().item(), (usual >= threshold).sum().item()
        expected += (hits / len(unusual) - recall) * hits / (hits + alarms)
        recall = hits / len(unusual)
    assert aupr == pytest.approx(expected)
    # The usual samples as the positive ones, found by a low score.
    is_usual = np.repeat([True, False], [len(usual), len(unusual)])
    rates, kept, _ = roc_curve(is_usual, -torch.cat([usual, unusual]).numpy(), drop_intermediate=False)
    assert fpr95 == pytest.approx(rates[np.flatnonzero(kept >= 0.95 - 1e-12)[0]])


@pytest.mark.parametrize("k", [1, 7, 50])
def test_neighbour_distances(k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    bank, queries = (torch.randn(n, 24, generator=generator) for n in (50, 33))
    reference = NearestNeighbors(n_neighbors=k).fit(normalize(bank.double().numpy()))
    expected = reference.kneighbors(normalize(queries.double().numpy()))[0][:, -1]
    np.testing.assert_allclose(neighbor_distances(queries, bank, k, chunk=10), expected, rtol=1e-5)


def test_a_row_of_zeros_is_at_distance_one_of_all_others() -> None:
    bank = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    torch.testing.assert_close(neighbor_distances(torch.zeros(1, 2), bank, 2), torch.ones(1))


@pytest.mark.parametrize("k", [0, 6])
def test_there_must_be_that_many_neighbours(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k is {k}. It must lie between 1 and 5"):
        neighbor_distances(torch.ones(2, 3), torch.ones(5, 3), k)
