"""RDMReg against equations 14 to 16 of arXiv 2602.01456, written out in loops."""

import math

import numpy as np
import pytest
import torch
from promises import assert_autocast_changes_neither_loss_nor_gradient, assert_processes_together_equal_one

from rectified_lpjepa.functional import keyed_generator
from rectified_lpjepa.objectives import Axes, Directions, Objective, RDMReg, Shard, Target

KINDS = ["random", "orthogonal", "eigen", "eigen_bottom_half"]


def features(batch=12, dim=6, views=2, dtype=torch.float64):
    return torch.randn(views, batch, dim, generator=torch.Generator().manual_seed(0), dtype=dtype).relu()


def loss_in_numpy(z, target, directions_per_view, invariance_weight, distribution_weight):
    """Eqs. 14-16 with the means the weights are made for, written out in loops."""
    _, batch, dim = z.shape
    invariance = sum((z[0, b, d] - z[1, b, d]) ** 2 for b in range(batch) for d in range(dim)) / (batch * dim)
    distances = []
    for view, directions in zip(z, directions_per_view, strict=True):
        for c in directions:
            pairs = zip(sorted(row @ c for row in view), sorted(row @ c for row in target), strict=True)
            distances.append(sum((x - y) ** 2 for x, y in pairs) / batch)
    rdmreg = sum(distances) / len(distances)
    return invariance_weight * invariance + distribution_weight * rdmreg, invariance, rdmreg


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("law", [Target(), Target(p=1.0, mu=-1.0), Target(p=0.5, rectified=False)])
def test_equals_the_equation_in_numpy(kind, law):
    objective = RDMReg(law, Directions(kind, 20), invariance_weight=3.0, distribution_weight=7.0)
    z = features()
    output = objective(z, z, seed=4, step=9)
    target = law.sample((12, 6), generator=keyed_generator(4, "target", 9, 0), dtype=torch.float64)
    parts = [block() for block in objective.directions.draw(z, seed=4, step=9)]
    directions = torch.cat([part.expand(2, *part.shape[-2:]) for part in parts], dim=1)
    loss, invariance, rdmreg = loss_in_numpy(z.numpy(), target.numpy(), directions.numpy(), 3.0, 7.0)
    np.testing.assert_allclose(output.loss.item(), loss, rtol=1e-12)
    np.testing.assert_allclose(output.parts["invariance"].item(), invariance, rtol=1e-12)
    np.testing.assert_allclose(output.parts["rdmreg"].item(), rdmreg, rtol=1e-12)
    assert set(output.parts) == {"invariance", "rdmreg"}


def test_default_weights_are_the_papers():
    objective, z = RDMReg(directions=Directions(num=16)), features()
    output = objective(z, z, seed=0, step=0)
    torch.testing.assert_close(output.loss, 25 * output.parts["invariance"] + 125 * output.parts["rdmreg"])
    assert RDMReg().directions == Directions("random", 8192)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("world_size", "num"), [(2, 13), (3, 20), (4, 6), (12, 7)])
def test_processes_together_equal_one(kind, world_size, num):
    assert_processes_together_equal_one(RDMReg(directions=Directions(kind, num)), features(), world_size)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_changes_neither_loss_nor_gradient(kind):
    z = features(batch=64, dtype=torch.float32)
    assert_autocast_changes_neither_loss_nor_gradient(RDMReg(directions=Directions(kind, 64)), z)


def test_half_precision_features_are_matched_to_a_float32_target():
    objective = RDMReg(Target(p=1.0), Directions(num=64))
    z = features(dtype=torch.float32).bfloat16()
    output = objective(z, z, seed=0, step=0)
    assert output.loss.dtype == torch.float32
    upcast = z.float()
    torch.testing.assert_close(output.loss, objective(upcast, upcast, seed=0, step=0).loss, rtol=1e-6, atol=0)


def test_is_a_function_of_seed_and_step_alone():
    objective, z = RDMReg(directions=Directions(num=8)), features()
    torch.manual_seed(0)
    first = objective(z, z, seed=0, step=0).loss
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert objective(z, z, seed=0, step=0).loss == first
    assert torch.equal(torch.get_rng_state(), state)
    assert objective(z, z, seed=0, step=1).loss != first
    assert objective(z, z, seed=1, step=0).loss != first


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_survives_full_collapse(kind):
    z = torch.zeros(2, 32, 6, requires_grad=True)
    objective = RDMReg(directions=Directions(kind, 64))
    objective(z, z, seed=0, step=0).loss.backward()
    assert z.grad.isfinite().all()
    assert z.grad.std(dim=1).min() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_broken_features_give_a_nan_loss_rather_than_an_error(kind):
    z = features()
    z[0, 3, 1] = math.nan
    assert RDMReg(directions=Directions(kind, 64))(z, z, seed=0, step=0).loss.isnan()


def test_minimising_it_brings_features_to_the_target():
    target = Target(p=1.0, active_fraction=0.3)
    objective = RDMReg(target, Directions("orthogonal", 64))
    before = (0.5 * torch.rand(1, 256, 16, generator=torch.Generator().manual_seed(0))).repeat(2, 1, 1)
    parameters = before.requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=0.05)
    for step in range(150):
        z = parameters.relu()
        optimizer.zero_grad()
        objective(z, z, seed=0, step=step).loss.backward()
        optimizer.step()
    law, z = target.law(), parameters.detach().relu()
    assert float(z.mean()) == pytest.approx(float(law.mean), abs=0.03)
    assert float(z.var()) == pytest.approx(float(law.variance), rel=0.15)
    assert float((z > 0).float().mean()) == pytest.approx(0.3, abs=0.1)


def test_init_args_are_plain_and_rebuild_it():
    objective = RDMReg(Target(p=1.0, active_fraction=0.2, sigma="rgn"), Directions("orthogonal", 16), 1.0, 2.0)
    arguments = objective.init_args
    assert arguments == {
        "target": {"p": 1.0, "mu": None, "active_fraction": 0.2, "sigma": "rgn", "rectified": True},
        "directions": {"kind": "orthogonal", "num": 16, "redrawn": True},
        "invariance_weight": 1.0,
        "distribution_weight": 2.0,
        "matching": "global",
        "axes": {"weight": 0.0, "num": None},
    }
    rebuilt = RDMReg(
        **{
            **arguments,
            "target": Target(**arguments["target"]),
            "directions": Directions(**arguments["directions"]),
            "axes": Axes(**arguments["axes"]),
        }
    )
    z = features()
    assert rebuilt(z, z, seed=0, step=0).loss == objective(z, z, seed=0, step=0).loss
    assert not objective.state_dict()


def test_facts_for_the_start_of_a_run():
    objective = RDMReg(Target(p=1.0, mu=-1.0), Directions("eigen", 600))
    facts = objective.description()
    assert facts["target"] == "rectified generalized Gaussian"
    assert facts["sigma"] == pytest.approx(0.707107, rel=1e-5)
    assert facts["active fraction of the target"] == pytest.approx(0.122, abs=5e-4)
    assert (facts["directions"], facts["kind of directions"]) == (600, "eigen")
    assert all(type(fact) in (str, int, float) for fact in facts.values())
    assert float(objective.law.active_fraction) == facts["active fraction of the target"]


def test_errors():
    with pytest.raises(ValueError, match=r"invariance_weight must be .* got -1"):
        RDMReg(invariance_weight=-1.0)
    with pytest.raises(ValueError, match=r"distribution_weight must be .* got nan"):
        RDMReg(distribution_weight=math.nan)
    objective, z = RDMReg(directions=Directions(num=8)), features()
    with pytest.raises(ValueError, match=r"one of 2 processes must be gathered to \(2, 24, 6\), got \(2, 12, 6\)"):
        objective(z, z, seed=0, step=0, shard=Shard(0, 2))
    with pytest.raises(ValueError, match=r"must be gathered to \(2, a multiple of 12, 6\), got \(2, 13, 6\)"):
        objective(z, features(batch=13), seed=0, step=0)
    with pytest.raises(ValueError, match=r"must be gathered to \(2, a multiple of 12, 6\), got \(1, 12, 6\)"):
        objective(z, z[:1], seed=0, step=0)
    with pytest.raises(ValueError, match="no matching 'local'; choose from global, per_rank"):
        RDMReg(matching="local")
    with pytest.raises(ValueError, match="at least 2 views"):
        objective(z[:1], z[:1], seed=0, step=0)
    with pytest.raises(ValueError, match="at least 1 sample"):
        objective(z[:, :0], z[:, :0], seed=0, step=0)
    with pytest.raises(TypeError, match="abstract"):
        Objective()
