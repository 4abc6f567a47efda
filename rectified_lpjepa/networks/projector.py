"""The projector: the head on which the objective acts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Projector:
    """Hidden layers Linear-BN-ReLU and a last linear layer, all with biases; a rectifier follows it.

    Nothing normalises the last layer: whether a feature is active is left to its own bias, and the objective sets it.

    Args:
        hidden_dim: width of the hidden layers.
        out_dim: width D of the projector features.
        hidden_layers: number of hidden layers; 0 makes a linear projector, for which ``hidden_dim`` and ``batch_norm``
            mean nothing.
        batch_norm: whether a batch norm follows each hidden linear layer; the head of SimCLR has none.

    Raises:
        ValueError: a width is below one, or the number of layers below zero.
    """

    hidden_dim: int = 512
    out_dim: int = 512
    hidden_layers: int = 2
    batch_norm: bool = True

    def __post_init__(self) -> None:
        for name, least in (("hidden_dim", 1), ("out_dim", 1), ("hidden_layers", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"Projector({name}={getattr(self, name)}) must be at least {least}.")

    def build(self, in_dim: int) -> nn.Sequential:
        """Build the projector.

        Args:
            in_dim: width of the encoder features.

        Returns:
            A module from (B, in_dim) to (B, out_dim), without the rectifier.
        """
        layers: list[nn.Module] = []
        width = in_dim
        for _ in range(self.hidden_layers):
            layers.append(nn.Linear(width, self.hidden_dim))
            if self.batch_norm:
                layers.append(nn.BatchNorm1d(self.hidden_dim))
            layers.append(nn.ReLU(inplace=True))
            width = self.hidden_dim
        return nn.Sequential(*layers, nn.Linear(width, self.out_dim))
