import pytest
import torch

from rectified_lpjepa.metrics import RunningMeans


def values(loss: float, top1: float) -> dict[str, torch.Tensor]:
    return {"loss": torch.tensor(loss), "top1": torch.tensor(top1)}


def numbers(means: RunningMeans) -> dict[str, float]:
    return {name: float(value) for name, value in means.compute().items()}


def test_steps_count_by_their_weight_and_a_reset_starts_over():
    means = RunningMeans()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert means.compute() == {}
    means.reset()
    means.update(values(4.0, 0.5), weight=3)
    means.update({"top1": torch.tensor(0.0), "loss": torch.tensor(2.0)}, weight=1)  # by name, in whatever order
    assert numbers(means) == pytest.approx({"loss": 3.5, "top1": 0.375})
    means.reset()
    means.update(values(1.0, 0.25), weight=7)
    assert numbers(means) == pytest.approx({"loss": 1.0, "top1": 0.25})


def test_many_small_steps_lose_nothing():
    means = RunningMeans()
    for _ in range(1000):
        means.update(values(0.1, 1 / 3), weight=256)
    assert numbers(means) == pytest.approx(
        {"loss": float(torch.tensor(0.1)), "top1": float(torch.tensor(1 / 3))}, rel=1e-12
    )


def test_the_sum_of_two_processes_is_the_mean_over_all_samples():
    parts = [RunningMeans(), RunningMeans()]
    parts[0].update(values(1.0, 0.0), weight=1)
    parts[1].update(values(4.0, 1.0), weight=2)
    for name, reduction in parts[0]._reductions.items():  # what torchmetrics does with the states of all processes
        setattr(parts[0], name, reduction(torch.stack([getattr(part, name) for part in parts])))
    parts[0]._computed = None
    assert numbers(parts[0]) == pytest.approx({"loss": 3.0, "top1": 2 / 3})
