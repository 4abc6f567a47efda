"""Entropies of features, against Theorem 3.6 of arXiv 2602.01456, closed forms, SciPy's estimate and another one."""

import math

import numpy as np
import pytest
import torch
from nearest_neighbor_entropy import nearest_neighbor_entropy
from scipy.stats import differential_entropy

from rectified_lpjepa.distributions import GeneralizedGaussian, RectifiedGeneralizedGaussian
from rectified_lpjepa.functional import sigma_gn
from rectified_lpjepa.functional.entropy import marginal_entropies
from rectified_lpjepa.functional.randomness import keyed_generator


def sample(law, samples=10_000, dim=30):
    return law.sample((samples, dim), generator=keyed_generator(0, "test"))


@pytest.mark.parametrize(
    ("p", "mu", "nats"), [(2.0, 0.0, 1.0560), (1.0, 0.0, 1.0199), (2.0, -1.0, 0.4915), (1.0, -1.0, 0.4494)]
)
def test_of_rectified_laws_equals_theorem_3_6(p, mu, nats):
    law = RectifiedGeneralizedGaussian(p, mu, float(sigma_gn(p)))
    assert float(law.entropy()) == pytest.approx(nats, abs=1e-4)
    found = marginal_entropies(sample(law))
    assert found.mean().item() == pytest.approx(nats, abs=0.01)
    assert found.std() < 0.03


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
def test_of_a_law_without_a_point_mass_is_differential_entropy(p):
    law = GeneralizedGaussian(p, 0.3, 2.0)
    x = sample(law, samples=4000)
    found = marginal_entropies(x)
    assert found.mean().item() == pytest.approx(float(law.entropy()), abs=0.03)
    torch.testing.assert_close(
        found, torch.from_numpy(differential_entropy(x.double().numpy(), method="ebrahimi")), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("active", [1.0, 0.3])
def test_of_known_laws_with_and_without_a_point_mass_is_their_closed_form_and_that_of_distances(active):
    """1 − ln λ of an exponential law, ln 2w of a uniform one, 1 + ln 2b of Laplace's, 2 + ln s of the logistic one."""
    random = np.random.default_rng(0)
    samples = 8000
    z = np.stack(
        [
            random.exponential(1 / 3, samples),
            random.uniform(-2.0, 2.0, samples),
            random.laplace(1.0, 0.5, samples),
            random.logistic(0.0, 2.0, samples),
        ],
        axis=1,
    )
    densities = [1 - math.log(3), math.log(4), 1.0, 2 + math.log(2)]
    zeros = round((1 - active) * samples)
    z[:zeros] = 0.0
    coin = -sum(share * math.log(share) for share in (active, 1 - active) if share)
    found = marginal_entropies(torch.from_numpy(z)).tolist()
    for column, density, entropy in zip(z[zeros:].T, densities, found, strict=True):
        assert entropy == pytest.approx(coin + active * density, abs=0.03)
        assert entropy == pytest.approx(coin + active * nearest_neighbor_entropy(column[:, None]), abs=0.03)


def test_scaling_adds_the_logarithm_once_per_active_value():
    z = sample(RectifiedGeneralizedGaussian(2.0, -0.5, 1.0), samples=500, dim=5).double()
    active = (z != 0).double().mean(0)
    torch.testing.assert_close(marginal_entropies(3 * z), marginal_entropies(z) + active * math.log(3))


def test_degenerate_features():
    z = torch.zeros(100, 5)
    z[:4, 1] = torch.tensor([0.1, 0.2, 0.3, 0.4])  # too few for a density
    z[:, 2] = 2.0
    z[:50, 3] = 1.0
    z[:, 4] = torch.rand(100, generator=keyed_generator(0, "test"))
    found = marginal_entropies(z).tolist()
    assert found[0] == 0
    assert found[1] == pytest.approx(-0.04 * math.log(0.04) - 0.96 * math.log(0.96))
    assert found[2] == found[3] == -math.inf
    assert found[4] == pytest.approx(0.0, abs=0.15)
    assert marginal_entropies(z[:1]).tolist() == [0.0] * 5
