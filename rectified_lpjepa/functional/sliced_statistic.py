"""The mean over directions of a statistic of projected features, value and gradient in one pass.

A statistic of the projections whose derivative is known in closed form needs no graph: one walk over blocks of
directions adds up value and gradient and keeps nothing else, so the memory does not grow with the number of directions.

Shape suffixes: V views, B samples, D features, N directions, n directions of a block, K views and samples as one axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rectified_lpjepa.functional.closed_form import with_gradient
from rectified_lpjepa.functional.precision import at_least_float32, full_precision
from rectified_lpjepa.functional.randomness import Blocks
from rectified_lpjepa.functional.threads import map_in_threads

Statistic = Callable[[Tensor, Tensor], Tensor]
"""Takes projections (n, V, B), float32 or float64, contiguous, and the n directions (n, D), and returns the sum over n
and V of a statistic of B projections each: a float64 scalar. Each projection is replaced by the sum's derivative by
it."""

BLOCK_ROWS = 512
"""Rows of a block of directions: enough for matrix products at full speed, few enough for a core's cache."""


def mean_over_directions(
    z: Tensor, directions: Tensor | Blocks, statistic_: Statistic, *, num_directions: int | None = None
) -> Tensor:
    """Project features onto directions and average a statistic of the projections over directions and views.

    It is computed in float32, or float64 if the features are, also under autocast. Blocks are drawn when they are
    needed, on a CPU by several threads at once, and dropped again. The last bits depend on the number of threads, as
    they do in PyTorch's own sums.

    Args:
        z: features (V, B, D), floating point.
        directions: unit directions (N, D), shared by the views, or (V, N, D), each view's own; or blocks of them, each
            (n, D) or (V, n, D).
        statistic_: what to average; called by several threads on a CPU.
        num_directions: for a share of the directions: the number of all of them. The mean over directions becomes their
            sum divided by this number, so that the values of all shares add up to the whole; a share may be empty.

    Returns:
        Scalar with a gradient to the features alone.

    Raises:
        ValueError: if the shapes do not fit each other, the batch or the directions are empty, ``num_directions`` is
            below 1, or a gradient of the directions is asked for.
        RuntimeError: in a backward pass through the gradient: there is no second derivative.
    """
    check_features(z)
    if num_directions is not None and num_directions < 1:
        raise ValueError(f"num_directions, the number of all directions, must be at least 1, got {num_directions}.")
    z_VBD = z.to(at_least_float32(z)).contiguous()
    needs_gradient = z.requires_grad and torch.is_grad_enabled()
    with torch.no_grad(), full_precision(z_VBD.device):
        blocks = _in_blocks(directions, z_VBD)
        walkers = min(torch.get_num_threads(), len(blocks)) if z_VBD.device.type == "cpu" else 1
        totals = map_in_threads(
            lambda first: _walk(z_VBD, blocks[first::walkers], statistic_, needs_gradient), range(walkers)
        )
        num = sum(total.directions for total in totals)
        if num_directions is None and num < 1:
            raise ValueError("There must be at least 1 direction, got none.")
        scale = 1.0 / (len(z_VBD) * (num if num_directions is None else num_directions))
        value, gradient_VBD = z_VBD.new_zeros((), dtype=torch.float64), None
        for total in totals:
            value += total.value
        if needs_gradient:
            gradient_VBD = torch.zeros_like(z_VBD)
            for total in totals:
                gradient_VBD += total.gradient
            gradient_VBD *= scale
        mean = value.mul_(scale).to(z_VBD.dtype)
    return with_gradient(mean, z_VBD, gradient_VBD)


def check_features(z: Tensor) -> None:
    """Raise a ValueError unless the features have the shape (V, B, D) with a sample."""
    if z.ndim != 3 or z.shape[1] < 1:
        raise ValueError(
            f"Expected features (V, B, D) of a batch that holds at least 1 sample, got shape {tuple(z.shape)}."
        )


class _Total(NamedTuple):
    """What a walk over directions adds up."""

    directions: int
    value: Tensor
    """float64."""
    gradient: Tensor
    """(V, B, D), zero if it is not needed."""


def _walk(z_VBD: Tensor, blocks: Blocks, statistic_: Statistic, needs_gradient: bool) -> _Total:
    """Add up the statistic, and its gradient, along some blocks of directions."""
    num, value, memory = 0, z_VBD.new_zeros((), dtype=torch.float64), Memory()
    gradient_VBD = torch.zeros_like(z_VBD)
    for draw in blocks:
        directions = draw()
        _check_directions(directions, z_VBD)
        directions = directions.to(z_VBD.dtype)
        num += directions.shape[-2]
        # Shared directions: all views in one product.
        parts = [(slice(None), directions)]
        if directions.ndim == 3:
            parts = [(slice(view, view + 1), own_nD) for view, own_nD in enumerate(directions)]
        for views, directions_nD in parts:
            projected_nK = memory.project(directions_nD, z_VBD[views].flatten(0, 1))
            value += statistic_(projected_nK.unflatten(1, (-1, z_VBD.shape[1])), directions_nD)
            if needs_gradient:
                gradient_VBD[views].flatten(0, 1).addmm_(projected_nK.T, directions_nD)
    return _Total(num, value, gradient_VBD)


class Memory:
    """Projections of samples, all in the same memory: the system would need time to hand out more of it."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def project(self, directions_nD: Tensor, samples_KD: Tensor) -> Tensor:
        """Return the projections (n, K), which are good until the next ones."""
        shape = len(directions_nD), len(samples_KD)
        if self._memory is None or self._memory.numel() < math.prod(shape):
            self._memory = samples_KD.new_empty(math.prod(shape))
        return torch.mm(directions_nD, samples_KD.T, out=self._memory[: math.prod(shape)].view(shape))


def _in_blocks(directions: Tensor | Blocks, z_VBD: Tensor) -> Blocks:
    if not isinstance(directions, Tensor):
        return directions
    _check_directions(directions, z_VBD)
    # On a CPU no fewer blocks than there are threads to work on them.
    threads = torch.get_num_threads() if z_VBD.device.type == "cpu" else 1
    rows = min(BLOCK_ROWS, -(-directions.shape[-2] // threads))
    return [lambda part=part: part for part in directions.split(max(1, rows), dim=-2)]  # type: ignore[misc]


def _check_directions(directions: Tensor, z_VBD: Tensor) -> None:
    views, _, dim = z_VBD.shape
    if directions.requires_grad:
        raise ValueError("The directions ask for a gradient, and only the features get one. HINT: detach them.")
    if directions.ndim not in (2, 3) or directions.shape[-1] != dim:
        raise ValueError(
            f"Expected directions (N, D) or (V, N, D) with D = {dim} as the features have, got shape "
            f"{tuple(directions.shape)}."
        )
    if directions.ndim == 3 and directions.shape[0] != views:
        raise ValueError(
            f"Directions (V, N, D) need one set for each of the {views} views, but there are {directions.shape[0]}."
        )
