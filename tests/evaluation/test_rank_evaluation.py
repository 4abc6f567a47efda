"""Ranks, covariances and factorisations of features: what theory says of the target, and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF
from subjects import FakeSubject, clusters

from rectified_lpjepa.distributions import GeneralizedGaussian, RectifiedGeneralizedGaussian
from rectified_lpjepa.evaluation.features import FeatureSet
from rectified_lpjepa.evaluation.rank import rank

LAW = RectifiedGeneralizedGaussian(2.0, 0.0, 1.0)


def evaluate(z, law=None, **options):
    test = FeatureSet(z, torch.full((len(z),), -1), None, z, z)
    return rank(FakeSubject(test, test, law=law), **({"nmf_ranks": [2]} | options))


def generator():
    return torch.Generator().manual_seed(0)


def test_features_of_the_target_have_what_sampling_alone_gives():
    evaluation = evaluate(LAW.sample((1500, 30), generator=generator()), LAW)
    metrics = evaluation.metrics
    projector = {name for name in metrics if name.startswith("projector/") and f"{name}_target" in metrics}
    assert len(projector) == 15
    for name in projector - {"projector/covariance/outside_marchenko_pastur"}:
        assert metrics[name] == pytest.approx(metrics[f"{name}_target"], rel=0.15, abs=1e-12), name
    # Var(RGN) is .34085 at p = 2 and μ = 0, and between independent features cos is mean² / (mean² + variance).
    assert metrics["projector/covariance/mean_eigenvalue"] == pytest.approx(0.34085, rel=0.03)
    assert metrics["projector/orthogonality/mean_abs_cos"] == pytest.approx(1 / math.pi, rel=0.03)
    # E C_ij² is Var² / (N − 1) for i ≠ j.
    assert metrics["projector/covariance/off_diagonal_energy"] == pytest.approx(29 / (1499 + 29), rel=0.15)
    assert metrics["projector/covariance/distance_to_var_identity"] < 0.2
    assert not any(name.startswith("encoder/") and name.endswith("_target") for name in metrics)
    assert len(evaluation.details["projector"]["eigenvalues"]) == 30


def test_features_that_are_not_independent():
    z = torch.rand(400, 3, generator=generator()) @ torch.rand(3, 40, generator=generator())
    metrics = evaluate(z, LAW).metrics
    assert metrics["projector/rank/effective_rank"] < 3.01
    assert math.isnan(metrics["projector/covariance/condition"])
    assert metrics["projector/covariance/off_diagonal_energy"] > 0.5
    distance, sampling = (metrics[f"projector/covariance/distance_to_var_identity{end}"] for end in ("", "_target"))
    assert distance > 2 * sampling


def with_eigenvalues(eigenvalues, samples):
    """Features whose sample covariance has these eigenvalues and no others but zero, about a mean of 5."""
    random = np.random.default_rng(0)
    constant = np.ones((samples, 1))
    centred = np.linalg.qr(np.hstack([constant, random.normal(size=(samples, len(eigenvalues)))]))[0][:, 1:]
    turned = np.linalg.qr(random.normal(size=(60, 60)))[0][: len(eigenvalues)]
    return torch.from_numpy(5 + centred * np.sqrt(np.array(eigenvalues) * (samples - 1)) @ turned)


@pytest.mark.parametrize(
    ("samples", "inside", "outside"),
    [
        # D / (N − 1) = ¼: for a variance of 1 from ¼ to 2¼.
        (241, [0.26] * 20 + [1.0] * 20 + [2.24] * 13, [2.26] * 3 + [0.24] * 4),
        # D / (N − 1) = 4, from 1 to 9: what is zero for lack of samples does not count.
        (16, [1.01] * 5 + [8.99] * 8, [9.01, 20.0]),
    ],
)
def test_eigenvalues_outside_the_law_of_marchenko_and_pastur_are_counted(samples, inside, outside):
    evaluation = evaluate(with_eigenvalues(inside + outside, samples), GeneralizedGaussian(2.0, 0.0, 1.0))
    share = len(outside) / (len(inside) + len(outside))
    assert evaluation.metrics["projector/covariance/outside_marchenko_pastur"] == pytest.approx(share)
    low, high = evaluation.details["projector"]["marchenko_pastur"]
    assert (low, high) == pytest.approx((0.25, 2.25) if samples == 241 else (1.0, 9.0))


def test_of_independent_features_no_eigenvalue_is_outside_but_for_spikes():
    noise = 3 * torch.randn(2000, 200, generator=generator(), dtype=torch.float64)
    name = "projector/covariance/outside_marchenko_pastur"
    law = GeneralizedGaussian(2.0, 0.0, 3.0)
    for target in (law, None):  # without a target the mean eigenvalue stands for its variance
        assert evaluate(noise, target, nmf_ranks=[]).metrics[name] <= 0.01
    before = evaluate(noise, law, nmf_ranks=[]).metrics[name]
    spikes = torch.linalg.qr(torch.randn(200, 5, generator=generator(), dtype=torch.float64))[0]
    amplitudes = 10 * torch.randn(2000, 5, generator=generator(), dtype=torch.float64)
    spiked = evaluate(noise + amplitudes @ spikes.T, law, nmf_ranks=[]).metrics[name]
    assert spiked == pytest.approx(before + 5 / 200, abs=0.001)


def test_effective_rank_of_the_covariance_equals_a_plain_reference():
    z = 2 + torch.randn(50, 12, generator=generator(), dtype=torch.float64) * torch.arange(1, 13)
    eigenvalues = np.linalg.eigvalsh(np.cov(z.numpy(), rowvar=False))
    p = eigenvalues / eigenvalues.sum()
    expected = math.exp(-sum(share * math.log(share) for share in p))
    assert evaluate(z).metrics["projector/rank/effective_rank_covariance"] == pytest.approx(expected)
    few = evaluate(with_eigenvalues([3.0, 3.0, 3.0, 3.0], 40)).metrics
    assert few["projector/rank/effective_rank_covariance"] == pytest.approx(4)
    # The mean, which is no part of a covariance, is a dimension of the features, and the longest by far.
    assert few["projector/rank/effective_rank"] < 3


@pytest.mark.parametrize(("samples", "dim"), [(20, 60), (30, 30), (2, 5)])
def test_fewer_samples_than_features(samples, dim):
    metrics = evaluate(LAW.sample((samples, dim), generator=generator()), LAW).metrics
    assert 0 < metrics["projector/rank/effective_rank_share"] <= 1
    assert metrics["projector/rank/rankme"] <= min(samples, dim) * 1.001
    assert math.isnan(metrics["projector/covariance/condition"])
    assert metrics["projector/covariance/smallest_eigenvalue"] == 0
    assert metrics["projector/covariance/outside_marchenko_pastur"] <= 1


def test_factorisation_beside_its_bounds():
    parts = torch.rand(300, 3, generator=generator()).square() @ torch.rand(3, 20, generator=generator()).square()
    metrics = evaluate(parts + 0.01 * torch.rand(300, 20, generator=generator()), nmf_ranks=[1, 3, 20]).metrics
    error, shuffled, least = (metrics[f"projector/nmf3/relative_error{name}"] for name in ("", "_shuffled", "_svd"))
    assert least <= error < 0.05 < shuffled
    assert "projector/nmf20/relative_error" not in metrics  # as many as there are features
    assert not any(name.startswith("encoder/nmf") for name in metrics)


def test_factorisation_is_scikit_learns_of_the_rectified_features():
    z = torch.randn(60, 8, generator=generator())
    evaluation = evaluate(z)
    x = z.relu().numpy()
    model = NMF(2, init="nndsvda", max_iter=200, tol=1e-3).fit(x)
    expected = np.linalg.norm(x - model.transform(x) @ model.components_) / np.linalg.norm(x)
    assert evaluation.metrics["projector/nmf2/relative_error"] == pytest.approx(expected, abs=2e-3)
    singular = np.linalg.svd(x, compute_uv=False)
    least = np.linalg.norm(singular[2:]) / np.linalg.norm(singular)
    assert evaluation.metrics["projector/nmf2/relative_error_svd"] == pytest.approx(least, rel=1e-5)
    assert evaluation.protocol["nmf_negative_share"] == pytest.approx(float((z < 0).double().mean()))


def test_features_without_variance():
    metrics = evaluate(torch.zeros(20, 4)).metrics
    assert metrics["projector/rank/rankme"] == metrics["projector/rank/effective_rank"] == 0
    for name in ("covariance/off_diagonal_energy", "orthogonality/mean_abs_cos", "nmf2/relative_error"):
        assert math.isnan(metrics[f"projector/{name}"])
    metrics = evaluate(torch.ones(20, 4)).metrics
    assert metrics["projector/orthogonality/constant_features"] == 4
    assert metrics["projector/rank/effective_rank"] == pytest.approx(1)
    assert metrics["projector/orthogonality/mean_abs_cos"] == pytest.approx(1)


def test_a_model_without_projector_and_bad_options():
    test = clusters(40, projector=False)
    metrics = rank(FakeSubject(test, test), nmf_ranks=[2]).metrics
    assert "encoder/nmf2/relative_error" in metrics
    for options in ({"samples": 1}, {"nmf_samples": 1}, {"nmf_ranks": [0, 2]}):
        with pytest.raises(ValueError, match="must be at least 2 and every rank at least 1"):
            rank(FakeSubject(test, test), **options)
    with pytest.raises(ValueError, match="the test split has 1"):
        evaluate(torch.ones(1, 4))
