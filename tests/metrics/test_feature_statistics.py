"""Statistics of features over batches and processes against NumPy's, and what the target predicts of them."""

import doctest

import numpy as np
import pytest
import torch

from rectified_lpjepa.distributions import GeneralizedGaussian, RectifiedGeneralizedGaussian
from rectified_lpjepa.metrics import FeatureStatistics, features, predicted_statistics

DIM = 16


def sparse_batches(*sizes, dim=DIM, seed=0, dtype=torch.float32):
    """Features with about 30 % active ones, two units that never are, and some rows without any."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for size in sizes:
        z = (torch.randn(size, dim, generator=generator) - 0.5).relu()
        z[:, 3] = z[:, 7] = 0.0
        z[::5] = 0.0
        batches.append(z.to(dtype))
    return batches


def reference(z):
    z = np.asarray(z, dtype=np.float64)
    l1, l2 = np.abs(z).sum(1), np.sqrt((z**2).sum(1))
    ratio = np.divide(l1, l2, out=np.zeros_like(l1), where=l2 > 0)
    return {
        "l0": (z != 0).mean(),
        "l1": (ratio**2 / z.shape[1]).mean(),
        "mean": z.mean(),
        "variance": z.var(axis=0).mean(),
        "dead_units": (z == 0).all(0).mean(),
        "zero_rows": (z == 0).all(1).mean(),
        "samples": len(z),
    }


def floats(statistics):
    return {name: float(value) for name, value in statistics.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_statistics_equal_numpys_over_all_batches(dtype):
    batches = sparse_batches(40, 64, 1, 7, dtype=dtype)
    metric = FeatureStatistics(DIM)
    for z in batches:
        metric.update(z)
    expected = reference(torch.cat(batches).double())
    assert floats(metric.compute()) == pytest.approx(expected, rel=1e-12)
    assert expected["dead_units"] == 2 / DIM
    assert expected["zero_rows"] > 0.1


def test_dense_features_of_both_signs():
    z = torch.randn(100, DIM, generator=torch.Generator().manual_seed(0))
    metric = FeatureStatistics(DIM)
    metric.update(z)
    statistics = floats(metric.compute())
    assert statistics == pytest.approx(reference(z))
    assert (statistics["l0"], statistics["dead_units"], statistics["zero_rows"]) == (1.0, 0.0, 0.0)


def test_values_that_are_not_finite_show():
    metric = FeatureStatistics(3)
    metric.update(torch.tensor([[torch.nan, torch.inf, -torch.inf]]))
    assert metric.compute()["mean"].isnan()


def test_the_number_of_samples_is_a_copy():
    metric = FeatureStatistics(DIM)
    metric.update(sparse_batches(40)[0])
    samples = metric.compute()["samples"]
    assert samples.dtype == torch.int64
    metric.update(sparse_batches(2)[0])
    assert int(samples) == 40
    assert int(metric.compute()["samples"]) == 42


def test_long_sums_lose_nothing():
    metric = FeatureStatistics(1)
    metric.update(torch.tensor([[1e4], [1e4 + 1]]))
    metric.rows *= 2**24
    metric.sums *= 2**24
    metric.square_sums *= 2**24
    metric.active_counts *= 2**24
    metric.update(torch.tensor([[1e4]]))
    assert int(metric.rows) == int(metric.active_counts) == 2**25 + 1
    assert float(metric.compute()["variance"]) == pytest.approx(0.25, rel=1e-6)


def test_a_constant_unit_has_no_negative_variance():
    metric = FeatureStatistics(1)
    for _ in range(3):
        metric.update(torch.full((7, 1), 0.1))
    assert 0 <= float(metric.compute()["variance"]) < 1e-15


def emulate_all_gather(other):
    """Stand in for the collective: this process's state first, then that of another process."""
    states = {name: getattr(other, name) for name in other._defaults}
    order = iter(list(states))

    def all_gather(tensor, group=None):
        return [tensor, states[next(order)]]

    return all_gather


def test_processes_merge_by_sums_of_their_states():
    mine, others = sparse_batches(40, 24)
    rank_0 = FeatureStatistics(DIM)
    rank_1 = FeatureStatistics(DIM)
    rank_0.update(mine)
    rank_1.update(others)
    rank_0.distributed_available_fn = lambda: True
    rank_0.dist_sync_fn = emulate_all_gather(rank_1)
    assert floats(rank_0.compute()) == pytest.approx(reference(torch.cat([mine, others])), rel=1e-12)
    assert int(rank_0.rows) == 40  # its own counts are back


def test_no_rows_give_nan_and_a_warning():
    metric = FeatureStatistics(DIM)
    with pytest.warns(UserWarning, match="before the ``update``"):
        statistics = metric.compute()
    assert int(statistics.pop("samples")) == 0
    assert all(value.isnan() for value in statistics.values())


def test_an_update_never_waits_for_the_device():
    # Tensors on the meta device have no values: whatever asks for one fails.
    metric = FeatureStatistics(DIM).to("meta")
    metric.update(torch.empty(8, DIM, device="meta"))
    with pytest.raises(RuntimeError, match="meta"):
        metric.rows.item()


def test_reset_forgets():
    first, second = sparse_batches(40, 24)
    metric = FeatureStatistics(DIM)
    metric.update(first)
    metric.compute()
    metric.reset()
    metric.update(second)
    assert floats(metric.compute()) == pytest.approx(reference(second))


def test_the_metric_is_no_part_of_a_checkpoint_and_keeps_its_precision():
    metric = FeatureStatistics(DIM)
    assert metric.state_dict() == {}
    module = torch.nn.ModuleList([metric]).half()
    metric.update(sparse_batches(4)[0])
    assert module[0].sums.dtype == torch.float64


@pytest.mark.parametrize("shape", [(4, DIM + 1), (4,), (2, 4, DIM)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"takes features \(B, 16\), not"):
        FeatureStatistics(DIM).update(torch.zeros(shape))


def test_no_features_are_refused():
    with pytest.raises(ValueError, match=r"FeatureStatistics\(dim=0\)"):
        FeatureStatistics(0)


@pytest.mark.parametrize(
    "law",
    [
        RectifiedGeneralizedGaussian(2.0, 0.0, 1.0),
        RectifiedGeneralizedGaussian(1.0, -1.0, 0.5),
        GeneralizedGaussian(1.0, 0.0, 1.0),
    ],
    ids=["rectified normal", "rectified laplace", "laplace"],
)
def test_predictions_equal_the_statistics_of_a_large_sample(law):
    predicted = predicted_statistics(law, DIM, num_samples=100_000)
    metric = FeatureStatistics(DIM)
    metric.update(law.sample((100_000, DIM), generator=torch.Generator().manual_seed(1)))
    measured = floats(metric.compute())
    assert measured.pop("samples") == 100_000
    assert predicted.keys() == measured.keys()
    # Four standard errors or more; l1's is that of the prediction's own 4096 rows.
    for name, tolerance in {
        "l0": 2e-3,
        "l1": 1e-2,
        "mean": 4e-3,
        "variance": 2e-2,
        "dead_units": 0,
        "zero_rows": 2e-3,
    }.items():
        assert measured[name] == pytest.approx(predicted[name], abs=tolerance), name


def test_predicted_dead_units_and_zero_rows():
    law = RectifiedGeneralizedGaussian(2.0, -2.0, 1.0)
    predicted = predicted_statistics(law, dim=8, num_samples=30)
    generator = torch.Generator().manual_seed(0)
    samples = law.sample((4000, 30, 8), generator=generator)
    assert predicted["dead_units"] == pytest.approx(float((samples == 0).all(1).double().mean()), abs=0.02)
    assert predicted["zero_rows"] == pytest.approx(float((samples == 0).all(2).double().mean()), abs=0.01)


def test_predictions_are_a_function_of_the_seed():
    law = RectifiedGeneralizedGaussian(2.0, 0.0, 1.0)
    assert predicted_statistics(law, 4, 10) == predicted_statistics(law, 4, 10)
    assert predicted_statistics(law, 4, 10)["l1"] != predicted_statistics(law, 4, 10, seed=1)["l1"]


def test_the_example_in_the_documentation():
    assert doctest.testmod(features).failed == 0
