"""kNN equals scikit-learn's, on one process and on two."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from processes import run_processes
from sklearn.neighbors import KNeighborsClassifier
from subjects import FakeSubject, clusters

from rectified_lpjepa.evaluation.features import FeatureSet
from rectified_lpjepa.evaluation.knn import knn
from rectified_lpjepa.functional.nearest_neighbors import METRICS, NeighborBank

WEIGHTS = {"euclidean": lambda d: 1 / (d + 1e-5), "cosine": lambda d: np.exp((1 - d) / 0.07)}


def subject() -> FakeSubject:
    return FakeSubject(clusters(90, dim=16), clusters(70, dim=16, seed=1))


def by_sklearn(train: FeatureSet, kind: str, metric: str, k: int) -> KNeighborsClassifier:
    model = KNeighborsClassifier(k, weights=WEIGHTS[metric], metric=metric, algorithm="brute")
    return model.fit(train.kinds()[kind].double().numpy(), train.labels.numpy())


@pytest.mark.parametrize("kind", ["encoder", "projector"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 7, 90])
def test_agrees_with_scikit_learn(kind: str, metric: str, k: int) -> None:
    fake = subject()
    train, test = fake.features("train"), fake.features("test")
    reference = by_sklearn(train, kind, metric, k)
    queries = test.kinds()[kind].double().numpy()

    bank = NeighborBank(train.kinds()[kind], train.labels, 3, metric)
    votes = bank.votes(test.kinds()[kind], k)
    shares = (votes / votes.sum(1, keepdim=True)).numpy()
    np.testing.assert_allclose(shares, reference.predict_proba(queries), atol=1e-9)
    accuracy = knn(fake, k=k, chunk=32).metrics[f"{kind}/knn{k}_{metric}/top1"]
    assert accuracy == reference.score(queries, test.labels.numpy())


def test_a_copy_of_a_query_decides_under_the_euclidean_distance() -> None:
    bank = NeighborBank(
        torch.tensor([[3.0, 4.0], [3.0, 4.01], [3.01, 4.0]]) * 1e3, torch.tensor([0, 1, 1]), 2, "euclidean"
    )
    votes = bank.votes(torch.tensor([[3.0, 4.0]]) * 1e3, k=3)
    torch.testing.assert_close(votes[0], torch.tensor([1e5, 0.2], dtype=torch.float64), rtol=1e-3, atol=0)


def test_a_row_of_zeros_has_the_similarity_zero_to_all() -> None:
    bank = NeighborBank(torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]), torch.arange(3), 3, "cosine")
    votes = bank.votes(torch.zeros(1, 2), k=3, temperature=1.0)
    torch.testing.assert_close(votes, torch.full((1, 3), -1.0, dtype=torch.float64).exp())


def test_the_first_five_count_and_a_class_without_votes_is_no_guess() -> None:
    train = FeatureSet(torch.arange(12.0)[:, None], torch.arange(12), 12)
    test = FeatureSet(torch.tensor([[0.1], [0.1], [0.1]]), torch.tensor([0, 4, 7]), 12)
    found = knn(FakeSubject(train, test), k=5).metrics
    assert found["encoder/knn5_euclidean/top1"] == pytest.approx(1 / 3)
    assert found["encoder/knn5_euclidean/top5"] == pytest.approx(2 / 3)
    assert knn(FakeSubject(train, test), k=2).metrics["encoder/knn2_euclidean/top5"] == pytest.approx(1 / 3)


def in_two_processes(rank: int, world_size: int) -> dict[str, float]:
    return dict(knn(subject(), chunk=16).metrics)


def test_two_processes_share_the_queries_and_find_the_same() -> None:
    alone = knn(subject()).metrics
    assert run_processes(in_two_processes, 2) == [alone, alone]
    assert 0.4 < alone["encoder/knn20_cosine/top1"] < 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_class_says_nothing_and_is_refused(split: str) -> None:
    sets = {"train": clusters(30), "test": clusters(24, seed=1)}
    sets[split] = sets[split].rows(sets[split].labels == 2)
    with pytest.raises(
        ValueError, match=r"knn needs samples of two classes or more; all (10|8) samples are of one. HINT"
    ):
        knn(FakeSubject(**sets), k=5)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="k = 20 neighbours among 12 training samples"):
        knn(FakeSubject(clusters(12), clusters(12)))
    with pytest.raises(ValueError, match="must be positive"):
        knn(subject(), temperature=0.0)
    unlabelled = FeatureSet(torch.ones(30, 2), torch.full((30,), -1), None)
    with pytest.raises(ValueError, match="needs a label"):
        knn(FakeSubject(unlabelled, unlabelled))
    with pytest.raises(ValueError, match="It must lie between 1 and 3"):
        NeighborBank(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), 1, "cosine").votes(torch.zeros(1, 2), 4)
