"""Few-shot classification and transfer: draws, intervals, and what scikit-learn makes of the same samples."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from subjects import FakeSubject, clusters

from rectified_lpjepa.evaluation.features import FeatureSet
from rectified_lpjepa.evaluation.few_shot import ShotAccuracy, draw_shots, few_shot
from rectified_lpjepa.evaluation.transfer import transfer, transfer_table


def sets(seed: int = 0) -> tuple[FeatureSet, FeatureSet]:
    return clusters(90, dim=8, seed=seed), clusters(200, dim=8, seed=seed + 1)


def test_accuracies_and_interval_are_those_of_scikit_learn_and_scipy() -> None:
    train, test = sets()
    found = few_shot(FakeSubject(train, test, seed=4), shots=[2, "all"], draws=6)
    for kind, features in train.kinds().items():
        x, test_x = features.numpy(), test.kinds()[kind].numpy()
        mean, scale = x.mean(0), x.std(0)
        x, test_x = (x - mean) / scale, (test_x - mean) / scale
        accuracies = []
        for draw in range(6):
            rows = draw_shots(train.labels, 2, 4, draw).numpy()
            model = LogisticRegression(C=1.0, max_iter=1000).fit(x[rows], train.labels[rows].numpy())
            accuracies.append(model.score(test_x, test.labels.numpy()))
        np.testing.assert_allclose(found.details[f"{kind}/2shot"], accuracies, atol=0.006)
        draws = np.array(found.details[f"{kind}/2shot"])
        low, high = scipy.stats.t.interval(0.95, 5, loc=draws.mean(), scale=scipy.stats.sem(draws))
        assert found.metrics[f"{kind}/2shot/top1"] == pytest.approx((low + high) / 2)
        assert found.metrics[f"{kind}/2shot/top1_ci95"] == pytest.approx((high - low) / 2)
        complete = LogisticRegression(C=1.0, max_iter=1000).fit(x, train.labels.numpy())
        expected = complete.score(test_x, test.labels.numpy())
        assert found.metrics[f"{kind}/allshot/top1"] == pytest.approx(expected, abs=0.006)
    assert not any(name.endswith("allshot/top1_ci95") for name in found.metrics)


@given(st.lists(st.integers(3, 7), min_size=2, max_size=4), st.integers(1, 3), st.integers(0, 5))
def test_a_draw_has_so_many_samples_of_each_class(sizes: list[int], shots: int, draw: int) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    rows = draw_shots(labels, shots, 0, draw)
    assert torch.equal(labels[rows].bincount(), torch.full((len(sizes),), shots))
    assert len(rows.unique()) == len(rows)
    assert torch.equal(rows, draw_shots(labels, shots, 0, draw))


def test_draws_differ() -> None:
    labels = torch.arange(100) % 2
    assert not torch.equal(draw_shots(labels, 5, 0, 0), draw_shots(labels, 5, 0, 1))
    assert not torch.equal(draw_shots(labels, 5, 0, 0), draw_shots(labels, 5, 1, 0))


def test_a_single_draw_has_no_interval() -> None:
    assert ShotAccuracy([0.5]).half_width is None
    assert ShotAccuracy([0.5, 0.5]).half_width == 0.0
    assert ShotAccuracy([0.0, 1.0]).half_width == pytest.approx(scipy.stats.t.ppf(0.975, 1) * math.sqrt(0.5 / 2))


def test_too_few_samples_are_named() -> None:
    with pytest.raises(ValueError, match=r"10 shots .* class 0 of these data has 2 training sample\(s\)") as error:
        few_shot(FakeSubject(clusters(6), clusters(9)), shots=[1, 10, "all"])
    assert "`--shots [2]`" in str(error.value)
    with pytest.raises(ValueError, match="at least 1, or 'all'"):
        few_shot(FakeSubject(*sets()), shots=[0])
    with pytest.raises(ValueError, match="two draws or more"):
        few_shot(FakeSubject(*sets()), draws=1)


@pytest.mark.parametrize("split", [0, 1])
def test_one_class_is_refused_by_the_name_of_its_data(split: int) -> None:
    both = list(sets())
    both[split] = both[split].rows(both[split].labels == 1)
    count = len(both[split])
    wrong = f"two classes or more; all {count} samples are of one. HINT: name data of several"
    with pytest.raises(ValueError, match=f"few-shot classification on these data needs samples of {wrong}"):
        few_shot(FakeSubject(*both), shots=["all"])
    with pytest.raises(ValueError, match=f"few-shot classification on digits needs samples of {wrong}"):
        transfer(FakeSubject(*sets(), others={"digits": tuple(both)}), ["digits"], shots=["all"])


def test_transfer_is_few_shot_classification_on_each_data_set_in_one_table() -> None:
    others = {"digits": sets(5)}
    found = transfer(FakeSubject(*sets(), others=others), ["digits"], shots=[1, "all"])
    alone = few_shot(FakeSubject(*others["digits"]), shots=[1, "all"])
    for kind in ("encoder", "projector"):
        assert found.metrics[f"{kind}/transfer_digits_1shot/top1"] == alone.metrics[f"{kind}/1shot/top1"]
        assert found.metrics[f"{kind}/transfer_digits_allshot/top1"] == alone.metrics[f"{kind}/allshot/top1"]
    activity = float((others["digits"][1].projector > 0).double().mean())
    assert found.metrics["projector/transfer_digits/l0"] == pytest.approx(activity)
    rows = [(row["data"], row["features"], row["shots"]) for row in found.details["table"]]
    assert rows == [("digits", kind, shots) for kind in ("encoder", "projector") for shots in (1, "all")]
    assert found.details["table"][0]["top1_ci95"] == found.metrics["encoder/transfer_digits_1shot/top1_ci95"]


def test_the_table_of_transfer_has_a_line_for_each_data_set_and_kind_of_features() -> None:
    found = transfer(FakeSubject(*sets(), others={"digits": sets(5)}), ["digits"], shots=[1, "all"])
    rows = [*found.details["table"], *(row | {"data": "other", "top1": 0.125} for row in found.details["table"])]
    lines = transfer_table(rows).splitlines()
    assert re.split("  +", lines[0]) == ["top-1 in %", "features", "1 of a class", "all of a class", "ℓ0"]
    names = [tuple(line.split()[:2]) for line in lines[1:5]]
    assert names == [(data, kind) for data in ("digits", "other") for kind in ("encoder", "projector")]
    l0 = found.metrics["projector/transfer_digits/l0"]
    for (data, kind), line in zip(names, lines[1:5], strict=True):
        one, half, every = (
            100 * found.metrics[f"{kind}/transfer_digits_{name}"]
            for name in ("1shot/top1", "1shot/top1_ci95", "allshot/top1")
        )
        one, every = (one, every) if data == "digits" else (12.5, 12.5)
        assert re.search(rf" {one:.1f} ± {half:.1f} +{every:.1f}( |$)", line)
        assert line.endswith(f" {l0:.3f}") == (kind == "projector")


def test_transfer_wants_data_sets_with_names_of_their_own() -> None:
    subject = FakeSubject(*sets(), others={"digits": sets(1), "again": sets(2)})
    for to in ([], ["digits", "digits"], ["digits", "again"]):
        with pytest.raises(ValueError, match="no name twice"):
            transfer(subject, to)
