"""Sparsity over views, classes and data sets, against SciPy and scikit-learn."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler
from subjects import FakeSubject, clusters

from rectified_lpjepa.data.folder import UnsplitFolderDataModule
from rectified_lpjepa.distributions import RectifiedGeneralizedGaussian
from rectified_lpjepa.evaluation.features import FeatureSet
from rectified_lpjepa.evaluation.sparsity import sparsity
from rectified_lpjepa.functional import l0_sparsity, l1_sparsity


def subject(train, test, **arguments):
    other_view = test.rows(torch.arange(len(test)).flip(0))
    return FakeSubject(train, test, views=[[test, other_view]], **arguments)


def features(z, labels=None, num_classes=None):
    z = torch.as_tensor(z, dtype=torch.float32)
    labels = torch.full((len(z),), -1) if labels is None else labels
    return FeatureSet(z, labels, num_classes, z - 1, z)


def test_sparsity_beside_the_target():
    law = RectifiedGeneralizedGaussian(2.0, -0.5, 1.0)
    test = features(law.sample((2000, 40), generator=torch.Generator().manual_seed(0)))
    metrics = sparsity(subject(test, test, law=law)).metrics
    assert metrics["projector/sparsity/l0"] == pytest.approx(float(l0_sparsity(test.projector)))
    assert metrics["projector/sparsity/l1"] == pytest.approx(float(l1_sparsity(test.projector)))
    assert metrics["projector/sparsity/l0_target"] == pytest.approx(0.3085, abs=1e-4)
    for name in ("l0", "l1", "mean", "variance", "dead_units", "zero_rows"):
        assert metrics[f"projector/sparsity/{name}"] == pytest.approx(
            metrics[f"projector/sparsity/{name}_target"], abs=0.01
        )
        assert f"encoder/sparsity/{name}_target" not in metrics


def test_overlap_of_views_and_classes():
    """Samples of a class share their active features, and those of two classes have none in common."""
    labels = torch.arange(60) % 3
    z = torch.nn.functional.one_hot(labels, 3).repeat_interleave(4, dim=1).float()
    test = features(z, labels, 3)
    evaluation = sparsity(FakeSubject(test, test, views=[[test, test]]), pairs=200)
    metrics = {name: value for name, value in evaluation.metrics.items() if name.startswith("projector/sparsity/")}
    assert metrics["projector/sparsity/overlap_views"] == 1
    assert metrics["projector/sparsity/overlap_within_class"] == 1
    assert metrics["projector/sparsity/overlap_between_classes"] == 0
    # Two independent sets of 4 out of 12 features, by the hypergeometric law.
    expected = sum(math.comb(4, i) * math.comb(8, 4 - i) / math.comb(12, 4) * i / (8 - i) for i in range(5))
    assert metrics["projector/sparsity/overlap_views_expected"] == pytest.approx(expected)
    assert metrics["projector/sparsity/l0_least_class"] == metrics["projector/sparsity/l0_largest_class"]
    assert evaluation.details["projector"]["class_l0"] == pytest.approx([1 / 3] * 3, abs=1e-4)
    assert np.shape(evaluation.details["projector"]["class_activity"]["activity"]) == (3, 12)


def test_right_and_wrong_samples_are_those_of_the_classifier():
    train, test = clusters(300, spread=2.0), clusters(200, spread=2.0, seed=1)
    metrics = sparsity(subject(train, test)).metrics
    scaler = StandardScaler().fit(train.projector.double())
    classifier = RidgeClassifier().fit(scaler.transform(train.projector.double()), train.labels)
    right = classifier.predict(scaler.transform(test.projector.double())) == test.labels.numpy()
    assert 0.4 < right.mean() < 0.95
    assert metrics["projector/sparsity_ridge/top1"] == pytest.approx(right.mean())
    l0 = (test.projector != 0).double().mean(1).numpy()
    l1 = np.array([float(l1_sparsity(row)) for row in test.projector.double()])
    for name, each in (("l0", l0), ("l1", l1)):
        value, low, high = (
            metrics[f"projector/sparsity_ridge/{name}_difference{end}"] for end in ("", "_low95", "_high95")
        )
        assert value == pytest.approx(each[right].mean() - each[~right].mean())
        assert low < value < high
        assert metrics[f"projector/sparsity_ridge/{name}_wrong"] == pytest.approx(each[~right].mean())


def test_data_sets_are_measured_and_correlated():
    others = {
        name: (clusters(200, spread=spread, seed=k), clusters(150, spread=spread, seed=k + 10))
        for k, (name, spread) in enumerate([("some/a.npz", 0.5), ("b", 1.5), ("c", 4.0)])
    }
    unlabelled = replace(clusters(50, seed=5), labels=torch.full((50,), -1), num_classes=None)
    others["d"] = unlabelled, unlabelled
    own = clusters(200)
    evaluation = sparsity(subject(own, own, others=others), against=list(others))
    metrics = evaluation.metrics
    names = ["own", "a", "b", "c"]
    rows = np.array([[metrics[f"projector/sparsity_on_{n}/{key}"] for key in ("l0", "top1", "nhsic")] for n in names])
    assert "projector/sparsity_on_d/top1" not in metrics
    assert metrics["projector/sparsity_across/l0_top1_data_sets"] == 4
    assert metrics["projector/sparsity_across/l0_top1_pearson"] == pytest.approx(pearsonr(rows[:, 0], rows[:, 1])[0])
    assert metrics["projector/sparsity_across/l0_top1_spearman"] == pytest.approx(spearmanr(rows[:, 0], rows[:, 1])[0])
    assert metrics["projector/sparsity_across/l0_nhsic_data_sets"] == 5
    assert ((rows[:, 2] > 0) & (rows[:, 2] < 1)).all()
    l0 = [*rows[:, 0], metrics["projector/sparsity_on_d/l0"]]
    assert metrics["projector/sparsity_across/l0_range"] == pytest.approx(np.ptp(l0))
    assert metrics["projector/sparsity_on_own/l0"] == metrics["projector/sparsity/l0"]
    for name, value in metrics.items():
        if "/sparsity_ridge/" in name:
            assert metrics[name.replace("sparsity_ridge", "sparsity_on_own")] == value
    assert metrics["projector/sparsity_on_c/l1_correct"] != metrics["projector/sparsity_on_c/l1_wrong"]
    assert set(evaluation.details["projector"]["data_sets"]) == {"own", "a", "b", "c", "d"}


def test_a_folder_has_the_name_that_other_evaluations_give_it():
    own, first, second = clusters(60), clusters(60, seed=1), clusters(60, seed=2)
    others = {"/x/set.v1": (own, first), "/y/set.v2": (own, second), "z/set.npz": (own, own)}
    metrics = sparsity(subject(own, own, others=others), against=list(others)).metrics
    for name, features in (("set.v1", first), ("set.v2", second), ("set", own)):
        expected = float(l0_sparsity(features.projector))
        assert metrics[f"projector/sparsity_on_{name}/l0"] == pytest.approx(expected)


class OfTestSplitsAlone(FakeSubject):
    """Its own data are a folder of classes without train and val, and so are the others."""

    def __init__(self, test, other):
        super().__init__(None, test, others={"folder": (None, other)}, views=[[test, test]])
        self.data = UnsplitFolderDataModule("own", image_size=8)

    def features(self, split, data=None):
        if split == "train":
            raise ValueError("there is no folder train")
        return super().features(split, data)

    def open(self, name):
        data = UnsplitFolderDataModule(name, image_size=8)
        self._opened[id(data)] = self._others[name]
        return data


def test_without_a_training_split_all_is_measured_but_a_classifier():
    test, other = clusters(60), clusters(50, seed=1)
    alone = sparsity(OfTestSplitsAlone(test, other), against=["folder"])
    whole = sparsity(FakeSubject(test, test, others={"folder": (other, other)}, views=[[test, test]]), ["folder"])
    missing = whole.metrics.keys() - alone.metrics.keys()
    of_ridge = {name.rpartition("/")[2] for name in whole.metrics if "projector/sparsity_ridge/" in name}
    assert missing == {
        name for name in whole.metrics if "sparsity_across" not in name and name.rpartition("/")[2] in of_ridge
    }
    assert "projector/sparsity_on_folder/top1" in missing
    for name, value in alone.metrics.items():
        if "sparsity_across" not in name:
            assert value == whole.metrics[name], name
    assert alone.metrics["projector/sparsity_across/l0_top1_data_sets"] == 0
    assert alone.metrics["projector/sparsity_across/l0_nhsic_data_sets"] == 2
    assert set(alone.protocol["not_classified"]) == {"own", "folder"}
    assert "no training split" in alone.protocol["not_classified"]["folder"]
    assert whole.protocol["not_classified"] == {}


def test_correlations_of_two_data_sets_or_of_equal_values_are_undefined():
    own, other = clusters(60), clusters(60, seed=1)
    metrics = sparsity(subject(own, own, others={"a": (own, other)}), against=["a"]).metrics
    assert metrics["projector/sparsity_across/l0_top1_data_sets"] == 2
    assert math.isnan(metrics["projector/sparsity_across/l0_top1_pearson"])
    metrics = sparsity(subject(own, own, others={"a": (own, own), "b": (own, own)}), against=["a", "b"]).metrics
    assert math.isnan(metrics["encoder/sparsity_across/l0_nhsic_spearman"])
    assert metrics["encoder/sparsity_across/l0_range"] == 0


def test_dense_features_and_dead_ones():
    labels = torch.arange(30) % 2
    for z, l0 in ((torch.ones(30, 5), 1.0), (torch.zeros(30, 5), 0.0)):
        test = features(z, labels, 2)
        evaluation = sparsity(subject(test, test))
        metrics = evaluation.metrics
        assert metrics["projector/sparsity/l0"] == l0
        assert metrics["projector/sparsity/dead_units"] == 1 - l0
        assert metrics["projector/sparsity_ridge/l0_difference"] == 0
        assert metrics["projector/sparsity_ridge/top1"] == 0.5
        overlap = metrics["projector/sparsity/overlap_views"]
        assert overlap == 1 if l0 else math.isnan(overlap)
        json.dumps(evaluation.details, allow_nan=False)


def test_without_labels_or_with_one_class_there_are_no_numbers_of_classes():
    z = torch.eye(20)[:, :4]
    for test, reason in ((features(z), "have none"), (features(z, torch.zeros(20).long(), 3), "of one")):
        evaluation = sparsity(subject(test, test))
        assert "projector/sparsity/l0" in evaluation.metrics
        assert not any("class" in name or "ridge" in name for name in evaluation.metrics)
        assert reason in evaluation.protocol["classes"]


def test_a_model_without_projector():
    test = clusters(40, projector=False)
    evaluation = sparsity(subject(test, test))
    assert set(evaluation.details) == {"encoder"}


def test_bad_options():
    test = clusters(20)
    for name in ("view_samples", "pairs", "classifier_samples"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            sparsity(subject(test, test), **{name: 0})
    for against in (["x/a.npz", "y/a.npz"], ["own"]):
        with pytest.raises(ValueError, match="names of their own"):
            sparsity(subject(test, test), against=against)
