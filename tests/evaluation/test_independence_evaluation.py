"""How far features are from independence: closed forms of normal features, and scikit-learn."""

import math

import pytest
import torch
from nearest_neighbor_entropy import nearest_neighbor_entropy
from sklearn.feature_selection import mutual_info_regression
from subjects import FakeSubject, clusters, unlabelled

from rectified_lpjepa.distributions import RectifiedGeneralizedGaussian
from rectified_lpjepa.evaluation.independence import independence

LAW = RectifiedGeneralizedGaussian(2.0, 0.0, 1.0)


def evaluate(preactivations, law=None, rectified=True, **options):
    test = unlabelled(preactivations, rectified=rectified)
    return independence(FakeSubject(test, test, law=law, rectified=rectified), **options)


def normal(samples, dim):
    return torch.randn(samples, dim, generator=torch.Generator().manual_seed(0))


def test_independent_features_that_follow_the_target():
    evaluation = evaluate(normal(3000, 20), LAW)
    found = {
        name.removeprefix("projector/independence/"): value
        for name, value in evaluation.metrics.items()
        if name.startswith("projector/")
    }
    assert found["nhsic"] == pytest.approx(found["nhsic_shuffled"], rel=0.1)
    assert found["nhsic"] < 0.02
    assert found["mutual_information"] == pytest.approx(found["mutual_information_shuffled"], abs=0.01)
    assert found["renyi_dimension_target"] == pytest.approx(10)
    assert found["renyi_dimension"] == pytest.approx(10, abs=0.2)
    # 1.0560 nats a feature: Theorem 3.6 of arXiv 2602.01456 at p = 2 and μ = 0.
    assert found["marginal_entropy_target"] == pytest.approx(20 * 1.0560, abs=1e-2)
    assert found["marginal_entropy"] == pytest.approx(found["marginal_entropy_target"], rel=0.02)
    assert found["total_correlation"] == pytest.approx(0, abs=0.05)
    assert found["joint_entropy"] == found["marginal_entropy"] - found["total_correlation"]
    assert sum(evaluation.details["projector"]["nhsic_histogram"]["pairs"]) == 190
    assert len(evaluation.details["projector"]["marginal_entropies"]) == 20


def test_dependent_features():
    mixed = normal(3000, 4)[:, [0, 0, 1, 1]] + 0.5 * normal(3000, 8)[:, 4:]
    metrics = evaluate(mixed, LAW).metrics
    assert metrics["projector/independence/nhsic"] > 5 * metrics["projector/independence/nhsic_shuffled"]
    assert metrics["projector/independence/mutual_information"] > 0.1
    # Two pairs with correlation 1 / 1.25: −½ ln(1 − .64) nats each before the rectifier.
    before = metrics["preactivations/independence/total_correlation"]
    assert before == pytest.approx(-math.log(1 - 0.64), abs=0.05)
    assert 0.3 * before < metrics["projector/independence/total_correlation"] < before


def test_joint_entropy_of_correlated_normal_features_is_the_closed_form_and_that_of_distances():
    """½ ln((2πe)³ det Σ), which dependence makes 1.0 nats less than the marginal entropies."""
    correlation = torch.full((3, 3), 0.8).fill_diagonal_(1.0)
    scale = torch.tensor([0.5, 1.0, 4.0])
    covariance = scale[:, None] * correlation * scale
    z = normal(6000, 3) @ torch.linalg.cholesky(covariance).T + 3.0
    found = {
        name: evaluate(z, rectified=False).metrics[f"projector/independence/{name}"]
        for name in ("joint_entropy", "marginal_entropy", "total_correlation")
    }
    marginal = sum(0.5 * math.log(2 * math.pi * math.e * s**2) for s in scale.tolist())
    joint = 1.5 * math.log(2 * math.pi * math.e) + 0.5 * float(covariance.logdet())
    assert marginal - joint == pytest.approx(1.13, abs=0.01)
    assert found["marginal_entropy"] == pytest.approx(marginal, abs=0.06)
    assert found["total_correlation"] == pytest.approx(marginal - joint, abs=0.06)
    assert found["joint_entropy"] == pytest.approx(joint, abs=0.06)
    assert found["joint_entropy"] == pytest.approx(nearest_neighbor_entropy(z.double().numpy()), abs=0.1)


def test_joint_entropy_is_an_upper_bound_where_dependence_is_no_correlation():
    """y = |x| + noise: the scores are not correlated, so that nothing is taken off, and the true one is less."""
    x = normal(6000, 2).double()
    z = torch.stack([x[:, 0], x[:, 0].abs() + 0.2 * x[:, 1]], 1)
    metrics = evaluate(z.float(), rectified=False).metrics
    assert metrics["projector/independence/total_correlation"] == pytest.approx(0.0, abs=0.02)
    assert metrics["projector/independence/joint_entropy"] > nearest_neighbor_entropy(z.numpy()) + 0.5


def test_mutual_information_is_scikit_learns():
    z = normal(500, 2)
    z[:, 1] += z[:, 0]
    metrics = evaluate(z, rectified=False).metrics
    expected = mutual_info_regression(z[:, :1].double(), z[:, 1].double(), random_state=0)[0]
    # Of the Gaussian pair it is −½ ln(1 − ½) nats.
    assert metrics["projector/independence/mutual_information"] == pytest.approx(expected)
    assert expected == pytest.approx(math.log(2) / 2, abs=0.1)
    assert "preactivations/independence/total_correlation" not in metrics  # they are the projector features


def test_constant_features_and_few_samples():
    x = normal(8, 10)
    x[:, 3] = -1.0
    x[:, 4] = 2.0
    metrics = evaluate(x, LAW).metrics
    assert metrics["projector/independence/constant_features"] == 2
    assert metrics["projector/independence/features_without_density"] == 1
    for name in ("total_correlation", "joint_entropy"):
        assert math.isnan(metrics[f"projector/independence/{name}"])
    assert math.isfinite(metrics["projector/independence/marginal_entropy"])
    metrics = evaluate(torch.ones(50, 3)).metrics
    assert metrics["projector/independence/nhsic"] == 0
    assert metrics["projector/independence/mutual_information"] == pytest.approx(0, abs=0.2)
    metrics = evaluate(normal(3, 1)).metrics
    assert math.isnan(metrics["projector/independence/nhsic"])
    assert math.isnan(metrics["projector/independence/mutual_information"])


def test_numbers_of_samples_and_bad_options():
    evaluation = evaluate(normal(40, 3), hsic_samples=10, hsic_features=2, mi_samples=20, mi_pairs=1)
    assert evaluation.protocol["nhsic_samples"] == 10
    assert sum(evaluation.details["projector"]["nhsic_histogram"]["pairs"]) == 1
    for name, value in {"hsic_samples": 1, "hsic_features": 1, "mi_samples": 1, "mi_pairs": 0}.items():
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            evaluate(normal(40, 3), **{name: value})
    with pytest.raises(ValueError, match="2 samples or more"):
        evaluate(normal(1, 3))


def test_a_model_without_projector():
    test = clusters(60, projector=False)
    metrics = independence(FakeSubject(test, test)).metrics
    assert all(name.startswith("encoder/") for name in metrics)
