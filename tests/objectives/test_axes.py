"""The axis term of RDMReg, against its equation."""

import math

import pytest
import torch
from promises import assert_processes_together_equal_one

from rectified_lpjepa.functional.invariance import invariance
from rectified_lpjepa.functional.quantized_law import quantized_law
from rectified_lpjepa.objectives import Axes, Directions, RDMReg, Shard, Target

TARGET = Target(p=1.0, active_fraction=0.2)


def features(views=2, batch=24, dim=7):
    return torch.randn(views, batch, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64).relu()


def plain(z, target=TARGET):
    """The equation in plain words."""
    quantiles = quantized_law(z.shape[1], target.p, target.resolved_mu, target.resolved_sigma)
    return (z.sort(dim=1).values - quantiles[:, None]).square().mean()


def test_the_axes_are_added_to_the_other_directions():
    z = features()
    without = RDMReg(TARGET, Directions(num=16))(z, z, seed=1, step=2)
    output = RDMReg(TARGET, Directions(num=16), axes=Axes(weight=0.5))(z, z, seed=1, step=2)
    torch.testing.assert_close(output.parts["axes"], plain(z))
    assert output.parts["rdmreg"] == without.parts["rdmreg"]
    torch.testing.assert_close(output.loss, 25 * invariance(z) + 125 * (output.parts["rdmreg"] + 0.5 * plain(z)))


def test_without_weight_there_are_none():
    z = features()
    assert set(RDMReg(TARGET, Directions(num=16))(z, z, seed=1, step=2).parts) == {"invariance", "rdmreg"}
    assert "axes" not in RDMReg(TARGET).description()


def test_a_run_says_what_it_does_with_them():
    facts = RDMReg(TARGET, axes=Axes(weight=0.5)).description()
    assert (facts["weight of the axes"], facts["axes"]) == (0.5, "all")
    assert RDMReg(TARGET, axes=Axes(weight=0.5, num=3)).description()["axes"] == 3


@pytest.mark.parametrize("num", [None, 5])
@pytest.mark.parametrize("world_size", [1, 2, 3, 12])
def test_processes_together_equal_one(num, world_size):
    objective = RDMReg(TARGET, Directions(num=8), axes=Axes(weight=0.5, num=num))
    assert_processes_together_equal_one(objective, features(), world_size)


def test_each_process_by_itself_compares_its_own_samples():
    objective = RDMReg(TARGET, Directions(num=8), matching="per_rank", axes=Axes(weight=0.5))
    z = features()
    for rank, local in enumerate(z.chunk(3, dim=1)):
        output = objective(local, local, seed=1, step=2, shard=Shard(rank, 3))
        torch.testing.assert_close(output.parts["axes"], plain(local))


def test_a_share_is_drawn_anew_in_each_step_and_right_on_average():
    z, axes = features(), Axes(weight=1.0, num=3)
    values = torch.stack([axes.distance(z, TARGET, seed=0, step=step) for step in range(400)])
    assert len(set(values.tolist())) > 20
    torch.testing.assert_close(values.mean(), plain(z), rtol=0.05, atol=0)
    assert axes.distance(z, TARGET, seed=0, step=3) == values[3]


def test_they_find_the_sparsity_that_few_random_directions_miss():
    torch.manual_seed(0)
    asked, fractions = 0.1, {}
    for weight in (0.0, 1.0):
        objective = RDMReg(Target(active_fraction=asked), Directions(num=8), axes=Axes(weight=weight))
        # Features that depend on each other, through one layer.
        inputs = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
        layer = torch.nn.Linear(8, 64)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
        for step in range(200):
            z = layer(inputs).relu().expand(2, -1, -1)
            optimizer.zero_grad()
            objective(z, z, seed=0, step=step).loss.backward()
            optimizer.step()
        fractions[weight] = float((z > 0).float().mean())
    assert abs(fractions[1.0] - asked) < abs(fractions[0.0] - asked) / 2


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_weights_out_of_range(weight):
    with pytest.raises(ValueError, match="weight of the axes"):
        Axes(weight=weight)


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="at least 1, or null"):
        Axes(num=0)
    with pytest.raises(ValueError, match="8 axes, but there are 7 features"):
        Axes(weight=1.0, num=8).distance(features(), TARGET, seed=0, step=0)
