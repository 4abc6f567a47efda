"""How sparse features are, their mean and variance, and what the target law predicts for them.

Shape suffixes: B samples of a batch, D features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.functional.sparsity import l1_sparsity

_MONTE_CARLO_ROWS = 4096  # rows of draws over which the target's l1 is averaged, which sets its standard error


class FeatureStatistics(Metric):
    """Statistics of features z of shape (B, D), accumulated on the device without waiting for it.

    * ``l0`` = mean over samples of ‖z‖₀ / D, the share of non-zero features;
    * ``l1`` = mean over samples of (‖z‖₁ / ‖z‖₂)² / D, where a sample without any active feature counts 0;
    * ``mean`` of all features;
    * ``variance``, the mean over units of each unit's (biased) variance;
    * ``dead_units``, the share of units that are zero in every sample;
    * ``zero_rows``, the share of samples whose features are all zero;
    * ``samples``, their number.

    Sums are kept in float64 and counts in int64, and both add up over processes. Before the first update all statistics
    but ``samples`` are NaN.

    Args:
        dim: number D of features.

    Raises:
        ValueError: ``dim`` below one.

    Example:
        >>> statistics = FeatureStatistics(dim=4)
        >>> statistics.update(torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
        >>> {name: value.item() for name, value in statistics.compute().items()}
        {'l0': 0.25, 'l1': 0.25, 'mean': 0.25, 'variance': 0.125, 'dead_units': 0.5, 'zero_rows': 0.5, 'samples': 2}
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    rows: Tensor
    zero_rows: Tensor
    active_counts: Tensor
    sums: Tensor
    square_sums: Tensor
    l1_sum: Tensor

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dim < 1:
            raise ValueError(f"FeatureStatistics(dim={dim}): the number of features must be at least 1.")
        self.dim = dim
        counts = {"rows": (), "zero_rows": (), "active_counts": (dim,)}
        totals = {"sums": (dim,), "square_sums": (dim,), "l1_sum": ()}
        for shapes, dtype in ((counts, torch.int64), (totals, torch.float64)):
            for name, shape in shapes.items():
                self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    @override
    def update(self, z: Tensor) -> None:
        """Add a batch of features.

        Args:
            z: (B, D), floating point.

        Raises:
            ValueError: the features are of another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise ValueError(f"FeatureStatistics(dim={self.dim}) takes features (B, {self.dim}), not {tuple(z.shape)}.")
        z_BD = z.detach().double()
        active_BD = z_BD != 0
        self.rows += len(z_BD)
        self.zero_rows += (~active_BD.any(dim=1)).sum()
        self.active_counts += active_BD.sum(dim=0)
        self.sums += z_BD.sum(dim=0)
        self.square_sums += z_BD.square().sum(dim=0)
        self.l1_sum += l1_sparsity(z_BD) * len(z_BD)

    @override
    def compute(self) -> dict[str, Tensor]:
        """Compute the statistics.

        Returns:
            The statistics by name, float64 scalars; ``samples``, of all processes, is int64.
        """
        mean_D = self.sums / self.rows
        # Rounding can leave a constant unit's variance slightly below zero.
        variance_D = (self.square_sums / self.rows - mean_D.square()).clamp_min(0.0)
        dead_units = (self.active_counts == 0).double().mean()
        return {
            "l0": self.active_counts.sum().double() / (self.rows * self.dim),
            "l1": self.l1_sum / self.rows,
            "mean": mean_D.mean(),
            "variance": variance_D.mean(),
            "dead_units": dead_units.where(self.rows > 0, torch.nan),
            "zero_rows": self.zero_rows.double() / self.rows,
            # A copy: the state goes on being added to in place, and is reset.
            "samples": self.rows.clone(),
        }


def predicted_statistics(law: Law, dim: int, num_samples: int, seed: int = 0) -> dict[str, float]:
    """Predict what :class:`FeatureStatistics` finds for independent features that follow the target exactly.

    With ρ the law's active fraction, l0 is ρ, the expected share of dead units (1 − ρ)^n, that of all-zero rows
    (1 − ρ)^D; mean and variance are the law's. All but l1 are closed forms.

    Args:
        law: distribution of each feature, with scalar parameters.
        dim: number D of features.
        num_samples: number n of samples over which the statistics will be taken.
        seed: key of the draw behind l1.

    Returns:
        Predicted value of each statistic by name.
    """
    generator = keyed_generator(seed, "l1 of the target", device=law.loc.device)
    rows = law.sample((_MONTE_CARLO_ROWS, dim), generator=generator)
    active_fraction = float(law.active_fraction)
    return {
        "l0": active_fraction,
        "l1": float(l1_sparsity(rows)),
        "mean": float(law.mean),
        "variance": float(law.variance),
        "dead_units": (1.0 - active_fraction) ** num_samples,
        "zero_rows": (1.0 - active_fraction) ** dim,
    }
