"""One-dimensional optimal transport, many problems at once: the r-th smallest goes to the r-th smallest.

Shape suffixes: N problems, V samples that are matched to the same target, B values in each.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor

_KEYS_IN_CACHE = 1 << 16  # half a MiB of 8-byte keys stays in a core's second-level cache


def match_(values_NVB: Tensor, targets_NB: Tensor) -> Tensor:
    """Replace each value by its difference to the target value of the same rank.

    Of equal values any may come first; which one does depends on their places alone.

    Args:
        values_NVB: values, float32 or float64, contiguous; changed in place.
        targets_NB: target values of the same dtype, or (1, B) for all problems; sorted in place.

    Returns:
        Sum of the squared differences, float64 scalar on the same device.
    """
    packs = values_NVB.dtype == torch.float32 and values_NVB.device.type == "cpu" and sys.byteorder == "little"
    return (_match_packed_ if packs else _match_sorted_)(values_NVB, targets_NB)


def _match_sorted_(values_NVB: Tensor, targets_NB: Tensor) -> Tensor:
    """Match with :func:`torch.sort`."""
    ranked_NVB, places_NVB = values_NVB.sort(dim=-1, stable=True)
    ranked_NVB -= targets_NB.sort(dim=-1).values.unsqueeze(1)
    values_NVB.scatter_(-1, places_NVB, ranked_NVB)
    return ranked_NVB.square_().sum(dtype=torch.float64)


def _match_packed_(values_NVB: Tensor, targets_NB: Tensor) -> Tensor:
    """Match with NumPy, whose sort of plain numbers is many times faster than one that also returns the order.

    A float32 value and its place are packed into one float64 number: the bits of the value come first, so the numbers
    have the order of the values, and after sorting them the rest of their bits are the places.
    """
    N, V, B = values_NVB.shape
    targets, values = targets_NB.numpy(), values_NVB.numpy()
    targets.sort(axis=-1)
    targets = np.broadcast_to(targets, (N, B))
    rows = max(1, _KEYS_IN_CACHE // (V * B))
    keys = np.empty((min(rows, N), V, B))
    places = np.arange(keys.size, dtype=np.int32).reshape(keys.shape)
    total = 0.0
    # A feature that is not finite makes the value not finite, and that is reported where it is looked at.
    with np.errstate(all="ignore"):
        for start in range(0, N, rows):
            part = values[start : start + rows]
            part_keys = keys[: len(part)]
            words = part_keys.view(np.int32).reshape(*part.shape, 2)
            words[..., 1], words[..., 0] = part.view(np.int32), places[: len(part)]
            part_keys.sort(axis=-1)
            differences = words.view(np.float32)[..., 1] - targets[start : start + rows, None]
            total += float(np.vecdot(differences, differences).sum(dtype=np.float64))
            words[..., 1] = 0
            part.reshape(-1)[part_keys.view(np.int64).reshape(-1)] = differences.reshape(-1)
    return torch.tensor(total, dtype=torch.float64)
