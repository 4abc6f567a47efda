"""The sliced 2-Wasserstein distance between features and a sample of the target, value and gradient in one pass.

The gradient is known in closed form once the ranks are: 2 / (V·B·N) · (sorted features − sorted targets), put back in
order, times the direction. So one walk over blocks of directions adds up value and gradient and keeps nothing else: the
memory does not grow with the number of directions.

Shape suffixes: V views, B samples, D features, N directions, n directions of a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from rectified_lpjepa.functional.closed_form import with_gradient
from rectified_lpjepa.functional.matching import match_
from rectified_lpjepa.functional.precision import at_least_float32, full_precision
from rectified_lpjepa.functional.randomness import Blocks
from rectified_lpjepa.functional.threads import map_in_threads

BLOCK_ROWS = 512
"""Rows of a block of directions: enough for matrix products at full speed, few enough for a core's cache."""


def sliced_wasserstein(
    z: Tensor, target: Tensor | Blocks, directions: Tensor | Blocks, *, num_directions: int | None = None
) -> Tensor:
    """Compute the squared sliced 2-Wasserstein distance (arXiv 2602.01456, Eqs. 14-16).

    For each direction the projected features and the projected target sample are sorted and compared:

        mean over views v and directions n of 1/B · ‖sort(z_v c_n) − sort(y c_n)‖²

    It is computed in float32, or float64 if the features are, also under autocast. Blocks are drawn when they are
    needed, on a CPU by several threads at once, and dropped again. The last bits depend on the number of threads, as
    they do in PyTorch's own sums.

    Args:
        z: features (V, B, D), floating point.
        target: sample of the target (B, D), shared by the views; or its blocks of rows.
        directions: unit directions (N, D), shared by the views, or (V, N, D), each view's own; or blocks of them, each
            (n, D) or (V, n, D).
        num_directions: for a share of the directions: the number of all of them. The mean over directions becomes their
            sum divided by this number, so that the values of all shares add up to the whole; a share may be empty.

    Returns:
        Scalar ≥ 0, with a gradient to the features alone.

    Raises:
        ValueError: if the shapes do not fit each other, the batch or the directions are empty, ``num_directions`` is
            below 1, or a gradient of target or directions is asked for.
        RuntimeError: in a backward pass through the gradient: there is no second derivative.
    """
    if z.ndim != 3 or z.shape[1] < 1:
        raise ValueError(
            f"Expected features (V, B, D) of a batch that holds at least 1 sample, got shape {tuple(z.shape)}."
        )
    if num_directions is not None and num_directions < 1:
        raise ValueError(f"num_directions, the number of all directions, must be at least 1, got {num_directions}.")
    z_VBD = z.to(at_least_float32(z)).contiguous()
    needs_gradient = z.requires_grad and torch.is_grad_enabled()
    with torch.no_grad(), full_precision(z_VBD.device):
        target_BD = _whole_target(target, z_VBD)
        blocks = _in_blocks(directions, z_VBD)
        if z_VBD.device.type == "cpu":
            walkers = range(min(torch.get_num_threads(), len(blocks)))
            totals = map_in_threads(
                lambda first: _walk(z_VBD, target_BD, blocks[first :: len(walkers)], needs_gradient), walkers
            )
        else:
            totals = [_walk(z_VBD, target_BD, blocks, needs_gradient)]
        num = sum(total.directions for total in totals)
        if num_directions is None and num < 1:
            raise ValueError("There must be at least 1 direction, got none.")
        views, batch, _ = z_VBD.shape
        scale = 1.0 / (views * batch * (num if num_directions is None else num_directions))
        gradients = [total.gradient for total in totals if total.gradient is not None]
        gradient = _sum(gradients, torch.zeros_like(z_VBD)).mul_(2 * scale) if needs_gradient else None
        squares = _sum([total.squares for total in totals], z_VBD.new_zeros((), dtype=torch.float64))
        distance = squares.mul_(scale).to(z_VBD.dtype)
    return with_gradient(distance, z_VBD, gradient)


def _walk(z_VBD: Tensor, target_BD: Tensor, blocks: Blocks, needs_gradient: bool) -> _Total:
    """Add up the distances, and their gradient, along some blocks of directions."""
    total = _Total(z_VBD, target_BD, needs_gradient)
    for draw in blocks:
        total.add(draw())
    return total


class _Total:
    """What a walk over directions adds up.

    Attributes:
        directions: their number.
        squares: sum of squared differences over views, samples and directions, float64.
        gradient: sum of difference times direction (V, B, D); None if it is not needed.
    """

    def __init__(self, z_VBD: Tensor, target_BD: Tensor, needs_gradient: bool) -> None:
        self._z_VBD, self._target_BD = z_VBD, target_BD
        self._project, self._project_target = _Projection(), _Projection()
        self.directions = 0
        self.squares = z_VBD.new_zeros((), dtype=torch.float64)
        self.gradient = torch.zeros_like(z_VBD) if needs_gradient else None

    def add(self, directions: Tensor) -> None:
        """Add the distances along a block of directions (n, D), or (V, n, D), each view's own."""
        _check_directions(directions, self._z_VBD)
        directions = directions.to(self._z_VBD.dtype)
        self.directions += directions.shape[-2]
        if directions.ndim == 2:
            # All views in one product.
            self._add(directions, slice(None))
        else:
            for view, own_nD in enumerate(directions):
                self._add(own_nD, slice(view, view + 1))

    def _add(self, directions_nD: Tensor, views: slice) -> None:
        z_KD = self._z_VBD[views].flatten(0, 1)
        projected_nK = self._project(directions_nD, z_KD)
        targets_nB = self._project_target(directions_nD, self._target_BD)
        self.squares += match_(projected_nK.unflatten(1, (-1, len(self._target_BD))), targets_nB)
        if self.gradient is not None:
            self.gradient[views].flatten(0, 1).addmm_(projected_nK.T, directions_nD)


class _Projection:
    """Projections of samples, all in the same memory: the system would need time to hand out more of it."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def __call__(self, directions_nD: Tensor, samples_KD: Tensor) -> Tensor:
        shape = len(directions_nD), len(samples_KD)
        if self._memory is None or self._memory.numel() < math.prod(shape):
            self._memory = samples_KD.new_empty(math.prod(shape))
        return torch.mm(directions_nD, samples_KD.T, out=self._memory[: math.prod(shape)].view(shape))


def _sum(terms: Iterable[Tensor], start: Tensor) -> Tensor:
    for term in terms:
        start += term
    return start


def _whole_target(target: Tensor | Blocks, z_VBD: Tensor) -> Tensor:
    if not isinstance(target, Tensor):
        target = torch.cat(
            map_in_threads(lambda draw: draw(), target) if z_VBD.device.type == "cpu" else [draw() for draw in target]
        )
    if target.requires_grad:
        raise ValueError("The target asks for a gradient, and only the features get one. HINT: target.detach().")
    if target.shape != z_VBD.shape[1:]:
        raise ValueError(
            f"The target must hold as many samples as the batch and as many features, (B, D) = "
            f"{tuple(z_VBD.shape[1:])}, got {tuple(target.shape)}."
        )
    return target.to(z_VBD.dtype)


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
