"""Pure tensor mathematics: no state, no Lightning."""

from rectified_lpjepa.functional.axis_wasserstein import axis_wasserstein
from rectified_lpjepa.functional.cross_entropy import labelled_cross_entropy
from rectified_lpjepa.functional.directions import eigen_directions, orthogonal_directions, random_directions
from rectified_lpjepa.functional.generalized_gaussian import (
    active_fraction,
    mu_for_active_fraction,
    sigma_gn,
    sigma_rgn,
)
from rectified_lpjepa.functional.invariance import invariance
from rectified_lpjepa.functional.invariance_to_mean import invariance_to_mean
from rectified_lpjepa.functional.nt_xent import nt_xent
from rectified_lpjepa.functional.quantized_law import quantized_law
from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.functional.sigreg import sigreg
from rectified_lpjepa.functional.sliced_wasserstein import sliced_wasserstein
from rectified_lpjepa.functional.sparsity import l0_sparsity, l1_sparsity
from rectified_lpjepa.functional.vicreg import covariance_penalty, variance_hinge
from rectified_lpjepa.functional.visreg import sliced_wasserstein_to_normal, standardize

__all__ = [
    "active_fraction",
    "axis_wasserstein",
    "covariance_penalty",
    "eigen_directions",
    "invariance",
    "invariance_to_mean",
    "keyed_generator",
    "l0_sparsity",
    "l1_sparsity",
    "labelled_cross_entropy",
    "mu_for_active_fraction",
    "nt_xent",
    "orthogonal_directions",
    "quantized_law",
    "random_directions",
    "sigma_gn",
    "sigma_rgn",
    "sigreg",
    "sliced_wasserstein",
    "sliced_wasserstein_to_normal",
    "standardize",
    "variance_hinge",
]
