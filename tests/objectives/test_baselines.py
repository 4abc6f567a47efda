"""What every baseline's objective promises; the terms have tests of their own in tests/functional."""

import dataclasses
import math

import pytest
import torch
from promises import assert_autocast_changes_neither_loss_nor_gradient, assert_processes_together_equal_one

from rectified_lpjepa.functional import invariance
from rectified_lpjepa.functional.cross_entropy import labelled_cross_entropy
from rectified_lpjepa.functional.invariance_to_mean import invariance_to_mean
from rectified_lpjepa.functional.nt_xent import nt_xent
from rectified_lpjepa.functional.sigreg import sigreg
from rectified_lpjepa.functional.vicreg import covariance_penalty, variance_hinge
from rectified_lpjepa.functional.visreg import sliced_wasserstein_to_normal, standardize
from rectified_lpjepa.objectives import CrossEntropy, Directions, LeJEPA, NTXent, Shard, VICReg, VISReg

KINDS = ["random", "orthogonal", "eigen", "eigen_bottom_half"]
LABELS = torch.arange(12) % 6
OBJECTIVES = {
    **{f"LeJEPA {kind}": LeJEPA(Directions(kind, 20)) for kind in KINDS},
    **{f"VISReg {kind}": VISReg(Directions(kind, 20)) for kind in KINDS},
    "VICReg": VICReg(),
    "NT-Xent": NTXent(),
    "cross-entropy": CrossEntropy(),
}
every = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def features(batch=12, views=3, dtype=torch.float64):
    return torch.randn(views, batch, 6, generator=torch.Generator().manual_seed(0), dtype=dtype)


def drawn(objective, z):
    """All directions of seed 4 and step 9, (V, N, D)."""
    parts = [block() for block in objective.directions.draw(z, seed=4, step=9)]
    return torch.cat([part.expand(len(z), *part.shape[-2:]) for part in parts], dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_lejepa_weighs_its_terms(kind):
    z = features()
    objective = LeJEPA(Directions(kind, 20), weight=0.3, knots=9, upper=4.0)
    output = objective(z, z, seed=4, step=9, global_views=2)
    difference = invariance_to_mean(z, 2)
    statistic = sigreg(z, drawn(objective, z), knots=9, upper=4.0)
    torch.testing.assert_close(output.parts, {"invariance": difference, "sigreg": statistic})
    torch.testing.assert_close(output.loss, 0.7 * difference + 0.3 * statistic)


@pytest.mark.parametrize("kind", KINDS)
def test_visreg_weighs_its_terms(kind):
    z, objective = features(), VISReg(Directions(kind, 20), weight=0.6)
    output = objective(z, z, seed=4, step=9)
    location, scale, standardized = standardize(z)
    shape = sliced_wasserstein_to_normal(standardized, drawn(objective, standardized))
    difference = invariance_to_mean(z)
    expected = {"invariance": difference, "location": location, "scale": scale, "shape": shape}
    torch.testing.assert_close(output.parts, expected)
    torch.testing.assert_close(output.loss, 0.4 * difference + 0.6 * (location + scale + shape))


def test_vicreg_weighs_its_terms():
    z = features()
    output = VICReg()(z, z, seed=4, step=9)
    expected = {"invariance": invariance(z), "variance": variance_hinge(z), "covariance": covariance_penalty(z)}
    torch.testing.assert_close(output.parts, expected)
    torch.testing.assert_close(output.loss, 25 * invariance(z) + 25 * variance_hinge(z) + covariance_penalty(z))
    torch.testing.assert_close(VICReg(2.0, 0.0, 0.0)(z, z, seed=4, step=9).loss, 2 * invariance(z))


def test_losses_of_one_term():
    z = features()
    torch.testing.assert_close(NTXent(0.5)(z, z, seed=4, step=9).loss, nt_xent(z, temperature=0.5))
    output = CrossEntropy()(z, z, seed=4, step=9, labels=LABELS)
    torch.testing.assert_close(output.loss, labelled_cross_entropy(z, LABELS))
    assert output.parts == {"cross_entropy": output.loss}


def test_defaults_are_the_authors():
    assert (LeJEPA().directions, LeJEPA().weight, LeJEPA().knots) == (Directions(num=1024), 0.05, 17)
    assert (VISReg().directions, VISReg().weight) == (Directions(num=4096), 0.9)
    assert NTXent().temperature == 0.2


@every
@pytest.mark.parametrize("world_size", [2, 3, 12])
def test_processes_together_equal_one(objective, world_size):
    for divided in (True, False):
        assert_processes_together_equal_one(objective, features(), world_size, labels=LABELS, divided=divided)


@every
def test_autocast_changes_neither_loss_nor_gradient(objective):
    assert_autocast_changes_neither_loss_nor_gradient(objective, features(dtype=torch.float32), labels=LABELS)


@every
def test_is_a_function_of_seed_and_step_alone(objective):
    z, state = features(), torch.get_rng_state()
    losses = {
        (seed, step): objective(z, z, seed=seed, step=step, labels=LABELS).loss
        for seed, step in ((0, 0), (0, 1), (1, 0))
    }
    assert torch.equal(torch.get_rng_state(), state)
    assert objective(z, z, seed=0, step=0, labels=LABELS).loss == losses[0, 0]
    draws = isinstance(objective, LeJEPA | VISReg)
    assert len({float(loss) for loss in losses.values()}) == (3 if draws else 1)


@every
def test_broken_features_give_a_nan_loss_rather_than_an_error(objective):
    z = features()
    z[0, 3, 1] = math.nan
    assert objective(z, z, seed=0, step=0, labels=LABELS).loss.isnan()


@every
def test_init_args_are_plain_and_rebuild_it(objective):
    arguments = dict(objective.init_args)
    assert all(type(value) in (dict, str, int, float, type(None)) for value in arguments.values())
    if "directions" in arguments:
        assert arguments["directions"] == dataclasses.asdict(objective.directions)
        arguments["directions"] = Directions(**arguments["directions"])
    rebuilt, z = type(objective)(**arguments), features()
    assert rebuilt.init_args == objective.init_args
    one, other = (o(z, z, seed=0, step=0, labels=LABELS).loss for o in (rebuilt, objective))
    assert one == other
    assert not objective.state_dict()


@every
def test_facts_and_law(objective):
    facts = objective.description()
    assert all(type(fact) in (str, int, float) for fact in facts.values())
    if isinstance(objective, LeJEPA | VISReg):
        assert objective.law.mean == 0
        assert objective.law.variance == 1
        assert (facts["directions"], facts["kind of directions"]) == (20, objective.directions.kind)
    else:
        assert objective.law is None
    assert objective.needs_gathering == (not isinstance(objective, CrossEntropy))


def test_errors():
    for build, message in [
        (lambda: LeJEPA(weight=1.5), "weight must lie between 0 and 1, got 1.5"),
        (lambda: LeJEPA(knots=1), "knots must be at least 2, got 1"),
        (lambda: LeJEPA(upper=math.inf), "upper must be .* above 0, got inf"),
        (lambda: VISReg(weight=math.nan), "weight must lie between 0 and 1, got nan"),
        (lambda: VICReg(variance_weight=-1.0), "variance_weight must be .* got -1"),
        (lambda: NTXent(0.0), "temperature must be .* above 0, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            build()
    z = features()
    with pytest.raises(ValueError, match=r"CrossEntropy is supervised, but was given no labels\..*HINT"):
        CrossEntropy()(z, z, seed=0, step=0)
    with pytest.raises(ValueError, match="between 1 and 3, the number of views, got 4"):
        LeJEPA()(z, z, seed=0, step=0, global_views=4)


@pytest.mark.parametrize("objective", [LeJEPA(), VISReg(), VICReg(), NTXent()], ids=lambda o: type(o).__name__)
def test_gathered_features_must_fit(objective):
    z = features()
    with pytest.raises(ValueError, match=r"one of 2 processes must be gathered to \(3, 24, 6\), got \(3, 12, 6\)"):
        objective(z, z, seed=0, step=0, shard=Shard(0, 2))
    with pytest.raises(ValueError, match=r"must be gathered to \(3, a multiple of 12, 6\), got \(3, 13, 6\)"):
        objective(z, features(batch=13), seed=0, step=0)
    with pytest.raises(ValueError, match="at least 2 views"):
        objective(z[:1], z[:1], seed=0, step=0)
