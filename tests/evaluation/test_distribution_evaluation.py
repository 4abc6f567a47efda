"""Features beside the laws that are fitted to them or asked of them, against SciPy."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from gennorm import gennorm
from scipy.stats import kstest, norm, truncnorm
from subjects import FakeSubject, clusters, unlabelled

from rectified_lpjepa.distributions import GeneralizedGaussian, RectifiedGeneralizedGaussian
from rectified_lpjepa.evaluation import target_distance
from rectified_lpjepa.evaluation.distribution import distribution
from rectified_lpjepa.functional import generalized_gaussian as gg
from rectified_lpjepa.functional.max_sliced import ascend_directions

LAW = RectifiedGeneralizedGaussian(2.0, -0.3, 1.0)
QUICK = {"null_draws": 60, "directions": 16, "floor_draws": 2, "starts": 2, "steps": 10}


def evaluate(preactivations, law=LAW, rectified=True, **options):
    test = unlabelled(preactivations, rectified=rectified)
    return distribution(FakeSubject(test, test, law=law, rectified=rectified), **(QUICK | options))


def draw(p, mu, sigma, shape, seed=0):
    return gg.sample(p, mu, sigma, shape, generator=torch.Generator().manual_seed(seed))


def test_features_that_follow_the_target():
    x = draw(2.0, -0.3, 1.0, (1500, 30))
    evaluation = evaluate(x)
    metrics = evaluation.metrics
    fit = "preactivations/generalized_gaussian"
    for name, value in {"p": 2.0, "mu": -0.3, "sigma": 1.0}.items():
        assert metrics[f"{fit}/{name}_median_target"] == pytest.approx(value)
        assert metrics[f"{fit}/{name}_median"] == pytest.approx(value, abs=0.1)
    assert metrics[f"{fit}/rejected"] < 0.2
    assert metrics[f"{fit}/active_fraction_fitted"] == pytest.approx(norm.cdf(-0.3), abs=0.01)
    assert metrics[f"{fit}/active_fraction_error"] < 0.02
    target = "projector/target"
    assert metrics[f"{target}/mass_at_zero"] == pytest.approx(metrics[f"{target}/mass_at_zero_target"], abs=0.01)
    assert metrics[f"{target}/ks_positive_rejected"] < 0.2
    assert metrics[f"{target}/sliced_w2"] == pytest.approx(metrics[f"{target}/sliced_w2_floor"], rel=0.15)
    assert metrics[f"{target}/largest_w2"] < 4 * metrics[f"{target}/largest_w2_floor"]
    json.dumps(evaluation.details, allow_nan=False)
    plots = evaluation.details["preactivations"]["qq"]
    assert len(plots) == 9
    assert [plot["ks"] for plot in plots] == sorted(plot["ks"] for plot in plots)
    unit = plots[0]["unit"]
    p, mu, sigma = (evaluation.details["preactivations"]["fits"][name][unit] for name in ("p", "mu", "sigma"))
    quantiles = np.arange(1, 100) / 100
    np.testing.assert_allclose(plots[0]["measured"], np.quantile(x[:, unit].double(), quantiles), rtol=1e-3, atol=1e-3)
    expected = gennorm(p, mu, sigma).ppf(quantiles)
    np.testing.assert_allclose(plots[0]["fitted"], expected, rtol=1e-2, atol=1e-2)


def test_statistics_equal_scipys():
    x = draw(1.0, -0.5, 0.8, (300, 12))
    x[:, 5] = -1.0
    evaluation = evaluate(x)
    details = evaluation.details
    p, mu, sigma = (details["preactivations"]["fits"][name] for name in ("p", "mu", "sigma"))
    for d, found in enumerate(details["preactivations"]["ks"]):
        if d == 5:
            assert found is None
        else:
            law = gennorm(p[d], mu[d], sigma[d])
            assert found == pytest.approx(kstest(x[:, d].double().numpy(), law.cdf).statistic, abs=2e-3)
    assert evaluation.metrics["preactivations/generalized_gaussian/constant_features"] == 1
    rejected = []
    for d, found in enumerate(details["projector"]["ks_positive"]):
        positive = x[x[:, d] > 0, d].double().numpy()
        if d == 5:
            assert found is None
        else:
            result = kstest(positive, truncnorm(0.3, np.inf, loc=-0.3).cdf)
            assert found == pytest.approx(result.statistic, abs=1e-3)
            rejected.append(result.pvalue < 0.05)
    assert evaluation.metrics["projector/target/ks_positive_rejected"] == pytest.approx(np.mean(rejected))
    assert evaluation.metrics["projector/target/never_positive"] == 1


@pytest.mark.parametrize("p", [0.8, 2.0])
def test_p_values_are_calibrated_although_the_law_is_fitted(p):
    """A right hypothesis is rejected as often as the level says: within three standard errors of 5 %."""
    metrics = evaluate(draw(p, 0.2, 1.0, (200, 400), seed=1), law=None, null_draws=400).metrics
    assert metrics["preactivations/generalized_gaussian/rejected"] == pytest.approx(0.05, abs=3 * (0.05 / 400) ** 0.5)


def test_another_family_is_rejected():
    x = torch.from_numpy(np.random.default_rng(0).exponential(size=(500, 20))).float()
    metrics = evaluate(x, law=None).metrics
    assert metrics["preactivations/generalized_gaussian/rejected"] == 1
    assert not any(name.startswith("projector/") or name.endswith("target") for name in metrics)


def test_the_largest_distance_finds_what_random_directions_hardly_see():
    x = draw(2.0, -0.3, 1.0, (800, 60))
    x[:, 7] = (x[:, 7] + 1.5).relu()
    metrics = evaluate(x).metrics
    # Along that axis the distance is about the square of the shift of the quantiles.
    assert metrics["projector/target/largest_w2"] > 20 * metrics["projector/target/largest_w2_floor"]
    assert metrics["projector/target/largest_w2"] > 10 * metrics["projector/target/sliced_w2"]


def test_the_noise_floor_of_one_target_is_measured_once(monkeypatch):
    """And is what it would be if it were measured again; another target, size or search has another one."""
    samples = []

    def counted(x, y, directions, *, steps):
        samples.append(len(x))
        return ascend_directions(x, y, directions, steps=steps)

    def floors(law, samples, **options):
        metrics = evaluate(draw(2.0, 0.1, 1.0, (samples, 6), seed=next(seeds)), law=law, **options).metrics
        return {name: value for name, value in metrics.items() if "_w2_floor" in name}

    seeds = itertools.count()
    monkeypatch.setattr(target_distance, "ascend_directions", counted)
    for floor in (target_distance._sliced_floor, target_distance._largest_floor):
        floor.cache_clear()
    first = floors(RectifiedGeneralizedGaussian(1.5, 0.1, 1.0), 100)
    assert len(samples) == 1 + QUICK["floor_draws"]
    again = floors(RectifiedGeneralizedGaussian(1.5, 0.1, 1.0), 100)
    assert len(samples) == 2 + QUICK["floor_draws"]
    for floor in (target_distance._sliced_floor, target_distance._largest_floor):
        floor.cache_clear()
    assert floors(RectifiedGeneralizedGaussian(1.5, 0.1, 1.0), 100) == again == first
    others = [
        floors(RectifiedGeneralizedGaussian(1.5, 0.1 + 1e-6, 1.0), 100),
        floors(GeneralizedGaussian(1.5, 0.1, 1.0), 100),
        floors(RectifiedGeneralizedGaussian(1.5, 0.1, 1.0), 102),
        floors(RectifiedGeneralizedGaussian(1.5, 0.1, 1.0), 100, directions=17),
    ]
    assert len({json.dumps(found) for found in [first, *others]}) == 5


def test_a_dense_model_against_its_target():
    law = GeneralizedGaussian(2.0, 0.0, 1.0)
    metrics = evaluate(draw(2.0, 0.0, 1.0, (400, 8)), law=law, rectified=False).metrics
    assert metrics["projector/target/mass_at_zero"] == metrics["projector/target/mass_at_zero_target"] == 0
    assert metrics["projector/target/sliced_w2"] == pytest.approx(metrics["projector/target/sliced_w2_floor"], rel=0.6)
    assert metrics["projector/target/ks_positive_rejected"] < 0.5


def test_collapsed_features():
    evaluation = evaluate(torch.full((20, 4), -1.0))
    metrics = evaluation.metrics
    assert metrics["preactivations/generalized_gaussian/constant_features"] == 4
    for name in ("p_median", "ks_median", "ks_largest", "rejected", "active_fraction_fitted"):
        assert math.isnan(metrics[f"preactivations/generalized_gaussian/{name}"])
    assert math.isnan(metrics["projector/target/ks_positive_median"])
    assert metrics["projector/target/sliced_w2"] > metrics["projector/target/sliced_w2_floor"]
    assert evaluation.details["preactivations"]["qq"] == []


def test_bad_input():
    with pytest.raises(ValueError, match="at least 8 test samples are needed, got 7"):
        evaluate(draw(2.0, 0.0, 1.0, (7, 3)))
    test = clusters(30, projector=False)
    with pytest.raises(ValueError, match="no projector"):
        distribution(FakeSubject(test, test))
    least = {"fit_samples": 8, "samples": 8, "largest_samples": 8, "null_draws": 1, "floor_draws": 2, "steps": 1}
    for name, value in least.items():
        with pytest.raises(ValueError, match=f"{name} must be at least {value}, got {value - 1}"):
            evaluate(draw(2.0, 0.0, 1.0, (20, 3)), **{name: value - 1})
