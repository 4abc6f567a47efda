"""The sliced 2-Wasserstein distance between features and a sample of the target, value and gradient in one pass.

The gradient is known in closed form once the ranks are: 2 / (V·B·N) · (sorted features − sorted targets), put back in
order, times the direction. So one walk over blocks of directions adds up value and gradient and keeps nothing else: the
memory does not grow with the number of directions.

Shape suffixes: V views, B samples, D features, N directions, n directions of a block.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
    needed, on a CPU by several threads at once, and dropped again.

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
        ValueError: if the shapes do not fit each other, the batch or the directions are empty, or a gradient of target
            or directions is asked for.
        RuntimeError: in a backward pass through the gradient: there is no second derivative.
    """
    if z.ndim != 3 or z.shape[1] < 1:
        raise ValueError(
            f"Expected features (V, B, D) of a batch that holds at least 1 sample, got shape {tuple(z.shape)}."
        )
    z_VBD = z.to(at_least_float32(z)).contiguous()
    distance: Tensor = _SlicedWasserstein.apply(z_VBD, target, directions, num_directions)
    return distance


class _Total(NamedTuple):
    """What a walk over directions adds up."""

    directions: int
    squares: Tensor
    """Sum of squared differences over views, samples and directions, float64."""
    gradient: Tensor | None
    """Sum of difference times direction (V, B, D)."""


class _SlicedWasserstein(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z_VBD: Tensor, target: Tensor | Blocks, directions: Tensor | Blocks, num_directions: int | None
    ) -> Tensor:
        needs_gradient = ctx.needs_input_grad[0]
        with full_precision(z_VBD.device):
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
        scale = 1.0 / (views * batch * (num_directions or num))
        if needs_gradient:
            gradients = [total.gradient for total in totals if total.gradient is not None]
            ctx.save_for_backward(_sum(gradients, torch.zeros_like(z_VBD)).mul_(2 * scale))
        squares = _sum([total.squares for total in totals], z_VBD.new_zeros((), dtype=torch.float64))
        return squares.mul_(scale).to(z_VBD.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient_VBD,) = ctx.saved_tensors
        # Where a graph of the gradient is asked for, it must lead to an error instead of passing for a constant.
        anchor = torch.empty(0, requires_grad=torch.is_grad_enabled())
        return _Gradient.apply(grad_outputs[0], gradient_VBD, anchor), None, None, None


class _Gradient(torch.autograd.Function):
    """The gradient of the distance, which cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, grad_output: Tensor, gradient_VBD: Tensor, anchor: Tensor) -> Tensor:  # noqa: ARG004
        return grad_output * gradient_VBD

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004
        raise RuntimeError(
            "The sliced Wasserstein distance has no second derivative here: its gradient is computed in the forward "
            "pass and keeps no graph. HINT: call backward or autograd.grad without differentiating the result again."
        )


def _walk(z_VBD: Tensor, target_BD: Tensor, blocks: Blocks, needs_gradient: bool) -> _Total:
    """Add up the distances, and their gradient, along some blocks of directions."""
    gradient_VBD = torch.zeros_like(z_VBD) if needs_gradient else None
    squares = z_VBD.new_zeros((), dtype=torch.float64)
    projected, target_projected = (_Product(x) for x in (z_VBD, target_BD))
    num = 0
    for draw in blocks:
        directions = draw()
        _check_directions(directions, z_VBD)
        directions = directions.to(z_VBD.dtype)
        num += directions.shape[-2]
        shared = directions.ndim == 2
        # Shared directions project all views in one product; a view with directions of its own is by itself.
        for views in [slice(None)] if shared else [slice(view, view + 1) for view in range(len(z_VBD))]:
            own_nD = directions if shared else directions[views.start]
            projected_nK = projected(own_nD, z_VBD[views].flatten(0, 1))
            targets_nB = target_projected(own_nD, target_BD)
            squares += match_(projected_nK.unflatten(1, (-1, len(target_BD))), targets_nB)
            if gradient_VBD is not None:
                gradient_VBD[views].flatten(0, 1).addmm_(projected_nK.T, own_nD)
    return _Total(num, squares, gradient_VBD)


class _Product:
    """Projections of samples onto one block of directions after the other, all in the same memory.

    Fresh memory for each block would cost the time in which the system hands it out.
    """

    def __init__(self, like: Tensor) -> None:
        self._memory = like.new_empty(0)

    def __call__(self, directions_nD: Tensor, samples_KD: Tensor) -> Tensor:
        size = len(directions_nD) * len(samples_KD)
        if self._memory.numel() < size:
            self._memory = self._memory.new_empty(size)
        out_nK = self._memory[:size].view(len(directions_nD), len(samples_KD))
        return torch.mm(directions_nD, samples_KD.T, out=out_nK)


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
    # No fewer blocks than there are threads to work on them.
    rows = min(BLOCK_ROWS, -(-directions.shape[-2] // torch.get_num_threads()))
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
