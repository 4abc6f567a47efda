"""Rectifiers: what follows the projector and makes its features non-negative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Rectifier = Literal["relu", "rep_relu", "none"]


def rep_relu(x: Tensor) -> Tensor:
    """Rectify with the forward pass of ReLU and the gradient of GELU, so that units that are off still learn.

    Args:
        x: floating point, any shape.

    Returns:
        ``max(0, x)`` exactly, with ``d/dx = Φ(x) + x φ(x)`` for the standard normal law.
    """
    gelu = F.gelu(x)
    # The bracket is exactly zero, so the value is ReLU's to the last bit; only the gradient passes through it.
    return F.relu(x).detach() + (gelu - gelu.detach())


def identity(x: Tensor) -> Tensor:
    """Return ``x`` as it is: no rectifier."""
    return x


RECTIFIERS: dict[Rectifier, Callable[[Tensor], Tensor]] = {"relu": F.relu, "rep_relu": rep_relu, "none": identity}


def rectify(x: Tensor, name: Rectifier) -> Tensor:
    """Apply a rectifier by name.

    Args:
        x: floating point, any shape.
        name: ``relu``; ``rep_relu``, see :func:`rep_relu`; or ``none``.

    Returns:
        The rectified tensor, of the shape and dtype of ``x``.

    Raises:
        ValueError: there is no rectifier of this name.
    """
    if name not in RECTIFIERS:
        raise ValueError(f"There is no rectifier {name!r}. Choose one of {', '.join(RECTIFIERS)}.")
    return RECTIFIERS[name](x)
