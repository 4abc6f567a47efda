"""What one pass over the evaluation data finds out about the features, with the target's prediction beside it.

Shape suffixes: B samples of a batch, D features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.metrics.features import FeatureStatistics, predicted_statistics

_KEPT_ROWS = 4096


class EvaluatedFeatures(nn.Module):
    """The statistics of the features of a data set and what the law predicts for them, and some rows for figures.

    Args:
        dim: number D of features.
        law: the distribution that each feature is asked to follow; None if it is asked for none.

    Attributes:
        rows: up to 4096 rows of this process's features, evenly over the last pass whose rows were kept, on the CPU;
            None before it.
    """

    def __init__(self, dim: int, law: Law | None) -> None:
        super().__init__()
        self.rows: Tensor | None = None
        self._law = law
        self._statistics = FeatureStatistics(dim)
        self._predicted: dict[int, dict[str, float]] = {}
        self._strided: list[Tensor] = []
        self._batches = 0.0

    def start(self, batches: float) -> None:
        """Forget the last pass; this one has so many batches."""
        self._statistics.reset()
        self._strided = []
        self._batches = batches

    def update(self, z_BD: Tensor) -> None:
        """Add a batch of features, (B, D), floating point."""
        self._statistics.update(z_BD)
        # Evenly over the data set, whose order is often that of its classes.
        stride = max(1, math.ceil(self._batches * len(z_BD) / _KEPT_ROWS))
        self._strided.append(z_BD[::stride])

    def keep_rows(self) -> None:
        """Let :attr:`rows` be those of this pass."""
        if self._strided:
            self.rows = torch.cat(self._strided)[:_KEPT_ROWS].cpu()
        self._strided = []

    def compute(self) -> dict[str, Tensor | float]:
        """Compute the statistics over all processes, and those that the law predicts for as many samples.

        Returns:
            ``sparsity/l0``, ``sparsity/l1`` and ``features/<statistic>`` of :class:`FeatureStatistics`; with a law, of
            each the prediction, its name ending in ``_target``.
        """
        measured = self._statistics.compute()
        predicted = self._prediction(int(measured.pop("samples")))
        metrics: dict[str, Tensor | float] = {}
        for key, value in measured.items():
            name = f"{'sparsity' if key in ('l0', 'l1') else 'features'}/{key}"
            metrics[name] = value
            if key in predicted:
                metrics[f"{name}_target"] = predicted[key]
        return metrics

    def _prediction(self, samples: int) -> dict[str, float]:
        if self._law is None:
            return {}
        if samples not in self._predicted:
            self._predicted[samples] = predicted_statistics(self._law, self._statistics.dim, samples)
        return self._predicted[samples]
