"""The projector: the head on which the objective acts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Projector:
    """Linear-BN-ReLU-Linear-BN-ReLU-Linear, all linear layers with biases; a rectifier follows it.

    Nothing normalises the last layer: whether a feature is active is left to its own bias, and the objective sets it.

    Args:
        hidden_dim: width of the two hidden layers.
        out_dim: width D of the projector features.

    Raises:
        ValueError: a width is below one.
    """

    hidden_dim: int = 512
    out_dim: int = 512

    def __post_init__(self) -> None:
        for name, width in (("hidden_dim", self.hidden_dim), ("out_dim", self.out_dim)):
            if width < 1:
                raise ValueError(f"Projector({name}={width}) must be at least 1.")

    def build(self, in_dim: int) -> nn.Sequential:
        """Build the projector.

        Args:
            in_dim: width of the encoder features.

        Returns:
            A module from (B, in_dim) to (B, out_dim), without the rectifier.
        """
        return nn.Sequential(
            nn.Linear(in_dim, self.hidden_dim),
            nn.BatchNorm1d(self.hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(self.hidden_dim, self.hidden_dim),
            nn.BatchNorm1d(self.hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(self.hidden_dim, self.out_dim),
        )
