"""Running means over steps, processes and a stop."""

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


@pytest.mark.parametrize("now", [2, 1, 3])
def test_sums_kept_in_a_checkpoint_go_on_with_any_number_of_processes(now: int):
    parts = [RunningMeans(), RunningMeans()]
    parts[0].update(values(0.1, 0.0), weight=1)
    parts[1].update(values(4.0, 1.0), weight=2)
    states = [part.state_of_all() for part in parts]
    state = {"names": states[0]["names"]} | {
        key: torch.cat([state[key] for state in states]) for key in ("sums", "weights")
    }
    resumed = [RunningMeans() for _ in range(now)]
    for rank, part in enumerate(resumed):
        part.update(values(9.0, 9.0), weight=9)  # of another epoch
        part.restore(state, rank, now)
        part.update(values(0.3, 0.5), weight=1)
    for name in ("sums", "weight"):
        setattr(resumed[0], name, torch.stack([getattr(part, name) for part in resumed]).sum(dim=0))
    weight = 3 + now
    assert numbers(resumed[0]) == pytest.approx({"loss": (8.1 + 0.3 * now) / weight, "top1": (2 + 0.5 * now) / weight})
    if now == 2:
        parts[1].update(values(0.3, 0.5), weight=1)
        assert torch.equal(resumed[1].sums, parts[1].sums)  # to the last bit


def test_nothing_is_kept_of_an_epoch_that_has_not_begun():
    means = RunningMeans()
    means.update(values(1.0, 0.0), weight=1)
    means.reset()
    assert means.state_of_all() == {}
    means.restore({}, 0, 1)
    means.update(values(2.0, 0.5), weight=1)
    assert numbers(means) == {"loss": 2.0, "top1": 0.5}
