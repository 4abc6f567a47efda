"""Rectifiers: what follows the projector and makes its features non-negative.

All but ``none`` are exactly zero where x ≤ 0 and positive where x > 0, so that which features are active is decided by
the sign of x alone. A target is a law of what comes out of the rectifier, and is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Rectifier = Literal["relu", "rep_relu", "softplus_threshold", "gelu_relu", "none"]


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


def softplus_threshold(x: Tensor) -> Tensor:
    """Rectify with a softplus that is cut off below its value at zero, ``max(0, ln(1 + eˣ) − ln 2)``.

    Args:
        x: floating point, any shape.

    Returns:
        0 for x ≤ 0 and ``ln((1 + eˣ) / 2)`` above: x/2 near zero, x − ln 2 for large x. The gradient is 0 for x ≤ 0 and
        the logistic function ``1 / (1 + e⁻ˣ)`` above, which starts at ½.
    """
    positive = F.relu(x)
    # The same as a difference of two logarithms, which would be zero, or of either sign, near x = 0.
    return (positive + torch.log1p(torch.expm1(-positive) / 2)).to(x.dtype)


def gelu_relu(x: Tensor) -> Tensor:
    """Rectify with GELU and then ReLU.

    Args:
        x: floating point, any shape.

    Returns:
        0 for x ≤ 0 and ``x Φ(x)`` above, with the gradients 0 and ``Φ(x) + x φ(x)`` for the standard normal law.
    """
    return F.relu(F.gelu(x))


def identity(x: Tensor) -> Tensor:
    """Return ``x`` as it is: no rectifier."""
    return x


RECTIFIERS: dict[Rectifier, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "rep_relu": rep_relu,
    "softplus_threshold": softplus_threshold,
    "gelu_relu": gelu_relu,
    "none": identity,
}


def rectify(x: Tensor, name: Rectifier) -> Tensor:
    """Apply a rectifier by name.

    Args:
        x: floating point, any shape.
        name: a key of :data:`RECTIFIERS`.

    Returns:
        The rectified tensor, of the shape and dtype of ``x``.

    Raises:
        ValueError: there is no rectifier of this name.
    """
    if name not in RECTIFIERS:
        raise ValueError(f"There is no rectifier {name!r}. Choose one of {', '.join(RECTIFIERS)}.")
    return RECTIFIERS[name](x)
