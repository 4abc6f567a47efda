"""The target of an objective: its parameters in effect, and draws that follow its law."""

import math

import pytest
import scipy.stats
import torch
from gennorm import gennorm

from rectified_lpjepa.distributions import GeneralizedGaussian, RectifiedGeneralizedGaussian
from rectified_lpjepa.objectives import Shard, Target


def test_default_is_the_rectified_standard_normal_law():
    target = Target()
    assert (target.p, target.resolved_mu) == (2.0, 0.0)
    assert target.resolved_sigma == pytest.approx(1, rel=1e-12)
    law = target.law()
    assert isinstance(law, RectifiedGeneralizedGaussian)
    assert float(law.active_fraction) == pytest.approx(0.5)
    assert float(law.mean) == pytest.approx(1 / math.sqrt(2 * math.pi))
    assert law.loc.dtype == torch.float64


@pytest.mark.parametrize("p", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("sigma", ["gn", "rgn", 0.4])
@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.8])
def test_active_fraction_wanted_is_the_one_of_the_law(p, sigma, fraction):
    target = Target(p=p, active_fraction=fraction, sigma=sigma)
    assert float(target.law().active_fraction) == pytest.approx(fraction, rel=1e-6)
    if sigma == "rgn":
        assert float(target.law().variance) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    ("p", "mu", "sigma", "expected"),
    # From the table of σ_RGN(p, μ), and σ_GN(p).
    [
        (2, -1, "rgn", 2.3003),
        (1, 0, "rgn", 1.1547),
        (1, -2, "gn", 0.707107),
        (0.5, 3, "gn", 0.365148),
        (1, 0, 0.3, 0.3),
    ],
)
def test_scale_in_effect(p, mu, sigma, expected):
    assert Target(p=p, mu=mu, sigma=sigma).resolved_sigma == pytest.approx(expected, rel=5e-5)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
def test_sample_follows_the_law(p, rectified):
    mu, count = -0.3, 20_000
    target = Target(p=p, mu=mu, rectified=rectified)
    draws = target.sample((2, count), generator=torch.Generator().manual_seed(0))
    assert draws.shape == (2, count)
    assert draws.dtype == torch.float32
    reference = gennorm(p, mu, target.resolved_sigma)
    values = draws.flatten().numpy()
    if rectified:
        assert values.min() == 0
        zeros = int((values == 0).sum())
        assert scipy.stats.binomtest(zeros, values.size, reference.cdf(0)).pvalue > 0.01
        values, below = values[values > 0], reference.cdf(0)
        assert scipy.stats.kstest(values, lambda x: (reference.cdf(x) - below) / (1 - below)).pvalue > 0.01
    else:
        assert isinstance(target.law(), GeneralizedGaussian)
        assert scipy.stats.kstest(values, reference.cdf).pvalue > 0.01


def test_sample_follows_the_generator_and_the_dtype():
    first, again = (Target().sample((9,), generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert Target().sample((9,), dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize("world_size", [1, 3, 5])
def test_each_process_can_draw_its_own_samples(world_size):
    arguments = {"seed": 1, "step": 2, "dtype": torch.float64, "device": "cpu"}
    whole = torch.cat([block() for block in Target().blocks(150, 3, **arguments)])
    for rank in range(world_size):
        shard = Shard(rank, world_size)
        own = torch.cat([block() for block in Target().blocks(150, 3, **arguments, shard=shard)])
        assert torch.equal(own, whole[rank * 150 // world_size : (rank + 1) * 150 // world_size])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 0.0}, "shape p must be a finite number above 0, got 0.0"),
        ({"p": -1.0}, "shape p .* got -1.0"),
        ({"p": math.nan}, "shape p .* got nan"),
        ({"p": math.inf}, "shape p .* got inf"),
        ({"mu": math.nan}, "location mu must be a finite number, got nan"),
        ({"sigma": 0.0}, "scale sigma must be a finite number above 0, got 0.0"),
        ({"sigma": -2.0}, "scale sigma .* got -2.0"),
        ({"sigma": "unit"}, "scale sigma must be 'gn', 'rgn' or a number, got 'unit'"),
        ({"active_fraction": 0.0}, "strictly between 0 and 1, got 0.0"),
        ({"active_fraction": 1.0}, "strictly between 0 and 1, got 1.0"),
        ({"active_fraction": 1.5}, "strictly between 0 and 1, got 1.5"),
        ({"active_fraction": 0.3, "mu": 0.0}, "both mu=0.0 and active_fraction=0.3.*HINT"),
        ({"active_fraction": 0.3, "rectified": False}, "not rectified.*HINT"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Target(**arguments)
