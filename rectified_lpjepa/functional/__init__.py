"""Pure tensor mathematics: no state, no Lightning."""

from rectified_lpjepa.functional.directions import eigen_directions, orthogonal_directions, random_directions
from rectified_lpjepa.functional.generalized_gaussian import (
    active_fraction,
    mu_for_active_fraction,
    sigma_gn,
    sigma_rgn,
)
from rectified_lpjepa.functional.invariance import invariance
from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.functional.sliced_wasserstein import sliced_wasserstein
from rectified_lpjepa.functional.sparsity import l0_sparsity, l1_sparsity

__all__ = [
    "active_fraction",
    "eigen_directions",
    "invariance",
    "keyed_generator",
    "l0_sparsity",
    "l1_sparsity",
    "mu_for_active_fraction",
    "orthogonal_directions",
    "random_directions",
    "sigma_gn",
    "sigma_rgn",
    "sliced_wasserstein",
]
