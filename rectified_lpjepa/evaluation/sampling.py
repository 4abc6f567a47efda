"""Draw samples for an evaluation, and write down what was measured."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rectified_lpjepa.functional.randomness import keyed_generator


def draw_positions(total: int, limit: int, *, seed: int, purpose: str) -> Tensor:
    """Draw positions without replacement, a function of the key and of nothing else.

    Args:
        total: how many positions there are.
        limit: how many are wanted; all of them where there are fewer.
        seed: see :func:`~rectified_lpjepa.functional.randomness.keyed_generator`.
        purpose: what is drawn.

    Returns:
        int64, rising.
    """
    if total <= limit:
        return torch.arange(total)
    return torch.randperm(total, generator=keyed_generator(seed, purpose))[:limit].sort().values


def shuffle_columns(x_ND: Tensor, *, seed: int, purpose: str) -> Tensor:
    """Give each feature its samples in a random order of its own: the marginals stay, all dependence goes.

    Args:
        x_ND: features, on the CPU.
        seed: see :func:`~rectified_lpjepa.functional.randomness.keyed_generator`.
        purpose: what is drawn.

    Returns:
        (N, D), the same values.
    """
    order_ND = torch.rand(x_ND.shape, generator=keyed_generator(seed, purpose)).argsort(dim=0)
    return x_ND.gather(0, order_ND)


def numbers(values: Tensor, digits: int = 4) -> Any:
    """Turn a tensor into nested lists of numbers of so many significant digits; what is not finite becomes None."""
    if values.ndim:
        return [numbers(value, digits) for value in values.unbind()]
    value = values.item()
    return (float(f"{value:.{digits}g}") if math.isfinite(value) else None) if isinstance(value, float) else value
