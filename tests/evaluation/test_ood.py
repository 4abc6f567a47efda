"""Scores of unusual samples: known answers for features made so, and for the images that are made on the spot."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from subjects import FakeSubject, PixelSubject, clusters

from rectified_lpjepa.evaluation.altered import altered_features
from rectified_lpjepa.evaluation.features import FeatureSet
from rectified_lpjepa.evaluation.ood import _histograms, ood

SPARSITY = ("l0", "l1", "l1_norm", "l2_norm", "l0_deviation", "l1_norm_deviation")


def subject(unusual: FeatureSet, *, projector: bool = True, spread: float = 0.5, **arguments: object) -> FakeSubject:
    train = clusters(300, spread=spread, projector=projector)
    test = clusters(200, spread=spread, seed=1, projector=projector)
    return FakeSubject(train, test, others={"data/others.npz": (unusual, unusual)}, **arguments)  # type: ignore[arg-type]


def scaled(features: FeatureSet, factor: float) -> FeatureSet:
    assert features.projector is not None
    return replace(features, encoder=factor * features.encoder, projector=factor * features.projector)


def test_short_features_are_found_by_their_length_and_not_by_what_has_no_scale() -> None:
    found = ood(subject(scaled(clusters(150, spread=0.5, seed=2), 0.01)), ["data/others.npz"], [], k=10)
    for score in ("l1_norm", "l2_norm"):
        assert found.metrics[f"encoder/{score}_vs_others/auroc"] == 1.0
        assert found.metrics[f"encoder/{score}_vs_others/aupr"] == pytest.approx(1.0)
        assert found.metrics[f"encoder/{score}_vs_others/fpr95"] == 0.0
        assert found.metrics[f"projector/{score}_vs_others/auroc"] > 0.98  # rectified, some of the test's are short
    for kind in ("encoder", "projector"):
        for score in ("l1", "knn10"):
            assert abs(found.metrics[f"{kind}/{score}_vs_others/auroc"] - 0.5) < 0.1
    assert found.metrics["encoder/l0_vs_others/auroc"] == 0.5  # dense features: a constant score


def test_far_features_are_found_by_their_neighbours() -> None:
    """Opposite to their class mean, and as long."""
    found = ood(subject(scaled(clusters(150, spread=0.01, seed=2), -1.0), spread=0.01), ["data/others.npz"], [], k=10)
    assert found.metrics["encoder/knn10_vs_others/auroc"] == 1.0
    assert abs(found.metrics["encoder/l2_norm_vs_others/auroc"] - 0.5) < 0.1


def test_samples_of_the_same_law_are_not_found() -> None:
    found = ood(subject(clusters(2000, spread=0.5, seed=2)), ["data/others.npz"], [], k=10)
    values = {name: value for name, value in found.metrics.items() if "_vs_others/auroc" in name}
    assert len(values) == 2 * (len(SPARSITY) + 2)
    assert all(abs(value - 0.5) < 0.1 for value in values.values()), values


def test_deviations_from_the_means_of_the_training_samples() -> None:
    """The training samples have ℓ0 ½ and an ℓ1 norm of 2 in the mean; too much is as unusual as too little."""

    def plain(*rows: list[float]) -> FeatureSet:
        return FeatureSet(torch.tensor(rows, dtype=torch.float32), torch.full((len(rows),), -1), None)

    train = plain([1, 0, 0, 0], [1, 1, 1, 0])
    test = plain([1, 1, 0, 0], [1, 0, 0, 0])  # off by 0 and ¼ in ℓ0, by 0 and 1 in ℓ1
    other = plain([0, 0, 0, 0], [0, 4, 0, 0], [0.5, 0.5, 0.5, 0.5])  # by ½, ¼ and ½, and by 2, 2 and 0
    found = ood(FakeSubject(train, test, others={"o": (other, other)}), ["o"], [], k=1)
    # Of six pairs 5 are in order and one is a tie; and 4, 1 a tie and 1 the other way round.
    assert found.metrics["encoder/l0_deviation_vs_o/auroc"] == pytest.approx(5.5 / 6)
    assert found.metrics["encoder/l1_norm_deviation_vs_o/auroc"] == pytest.approx(4.5 / 6)
    # Both usual samples are kept by a threshold of ¼, and of 1, which one of three unusual ones does not pass.
    for score in ("l0_deviation", "l1_norm_deviation"):
        assert found.metrics[f"encoder/{score}_vs_o/fpr95"] == pytest.approx(1 / 3)
    # By falling score: both at ½ are unusual, at ¼ one of two more is.
    assert found.metrics["encoder/l0_deviation_vs_o/aupr"] == pytest.approx(2 / 3 * 1 + 1 / 3 * 3 / 4)
    # Both at 2 are unusual, then comes a usual one at 1, then one of either kind at 0.
    assert found.metrics["encoder/l1_norm_deviation_vs_o/aupr"] == pytest.approx(2 / 3 * 1 + 1 / 3 * 3 / 5)


def test_errors_are_those_of_a_logistic_regression() -> None:
    noisy = subject(clusters(10), spread=2.0)
    found = ood(noisy, generated=[], k=10)
    train, test = noisy.features("train"), noisy.features("test")
    for kind in ("encoder", "projector"):
        scaler = StandardScaler().fit(train.kinds()[kind].double().numpy())
        x, queries = (scaler.transform(part.kinds()[kind].double().numpy()) for part in (train, test))
        regression = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000).fit(x, train.labels.numpy())
        is_wrong = regression.predict(queries) != test.labels.numpy()
        assert found.metrics[f"{kind}/linear_probe/top1"] == pytest.approx(1 - is_wrong.mean(), abs=0.011)
        expected = roc_auc_score(is_wrong, -regression.predict_proba(queries).max(axis=1))
        assert found.metrics[f"{kind}/msp_vs_errors/auroc"] == pytest.approx(expected, abs=0.02)
        assert expected > 0.6


def test_without_errors_their_quality_is_undefined() -> None:
    found = ood(subject(clusters(10), spread=0.001), generated=[], k=10)
    assert found.metrics["encoder/linear_probe/top1"] == 1.0
    assert math.isnan(found.metrics["encoder/msp_vs_errors/auroc"])


@pytest.mark.parametrize("labels", ["none", "one class"])
def test_without_labels_there_is_no_probe(labels: str) -> None:
    def stripped(features: FeatureSet) -> FeatureSet:
        if labels == "none":
            return replace(features, labels=torch.full_like(features.labels, -1), num_classes=None)
        return replace(features, labels=torch.zeros_like(features.labels), num_classes=1)

    train, test = stripped(clusters(300)), stripped(clusters(200, seed=1))
    found = ood(FakeSubject(train, test, others={"o": (train, test)}), ["o"], [], k=10)
    assert {name.split("/")[1] for name in found.metrics} == {f"{score}_vs_o" for score in (*SPARSITY, "knn10")}
    assert found.protocol["linear_probe"].startswith("left out: A linear probe needs")


def test_a_model_without_projector_has_the_scores_of_its_encoder() -> None:
    found = ood(subject(clusters(100, projector=False), projector=False), ["data/others.npz"], [], k=10)
    assert {name.split("/")[0] for name in found.metrics} == {"encoder"}


def test_images_made_on_the_spot() -> None:
    found = ood(PixelSubject())
    # Digits are not like noise, and their pixels in another order are as many and as bright as before.
    assert found.metrics["encoder/knn50_vs_noise/auroc"] > 0.99
    assert found.metrics["encoder/knn50_vs_shuffled/auroc"] > 0.99
    for score in ("l0", "l1", "l1_norm", "l2_norm"):
        assert found.metrics[f"encoder/{score}_vs_shuffled/auroc"] == pytest.approx(0.5, abs=1e-3)  # but for rounding
    assert found.protocol["out_of_distribution"] == {"noise": 360, "shuffled": 360}
    histogram = found.details["histograms"]["projector"]["l0"]
    assert [sum(histogram[name]) for name in ("test", "noise", "shuffled")] == [360] * 3
    assert len(histogram["edges"]) == len(histogram["noise"]) + 1
    assert np.diff(histogram["edges"]).min() > 0
    assert ood(PixelSubject()).metrics == found.metrics
    assert ood(PixelSubject(seed=1)).metrics != found.metrics


def test_bins_of_shares_hold_equally_many_values() -> None:
    shares = torch.arange(100, 400).double() / 512
    histogram = _histograms({"test": shares, "other": shares[50:]})
    assert sum(histogram["test"]) == 300
    assert set(histogram["test"][1:-1]) == {5}
    assert np.diff(histogram["edges"]) * 512 == pytest.approx(5)
    continuous = torch.from_numpy(np.random.default_rng(0).normal(size=1000))
    assert len(_histograms({"test": continuous})["test"]) == 60
    assert sum(_histograms({"test": torch.zeros(7)})["test"]) == 7


def test_altered_features_are_those_of_all_images_in_order() -> None:
    subject = PixelSubject()
    brighter = altered_features(subject, {"as is": lambda images, _: images, "half": lambda images, _: images / 2})
    test = subject.features("test")
    assert torch.equal(brighter["as is"].encoder, test.encoder)
    assert torch.equal(brighter["half"].encoder, test.encoder / 2)
    assert torch.equal(brighter["half"].labels, test.labels)
    assert brighter["half"].num_classes == 10


def test_wrong_options_are_refused() -> None:
    plain = subject(clusters(10))
    with pytest.raises(ValueError, match=r"generated has fog. Choose of noise, shuffled"):
        ood(plain, generated=["fog"])
    for against in (["a/same.npz", "b/same"], ["errors"], ["noise"]):
        with pytest.raises(ValueError, match="need names of their own"):
            ood(plain, against)
    with pytest.raises(ValueError, match=r"k is 301. It must lie between 1 and 300, the number of training samples"):
        ood(plain, generated=[], k=301)
