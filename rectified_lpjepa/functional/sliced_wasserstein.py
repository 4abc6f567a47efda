"""The sliced 2-Wasserstein distance between features and a sample of the target, value and gradient in one pass.

The gradient is known in closed form once the ranks are: 2 / (V·B·N) · (sorted features − sorted targets), put back in
order, times the direction. So one walk over blocks of directions adds up value and gradient and keeps nothing else: the
memory does not grow with the number of directions.

Shape suffixes: V views, B samples, D features, N directions, n directions of a block.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from rectified_lpjepa.functional.matching import match_
from rectified_lpjepa.functional.precision import at_least_float32
from rectified_lpjepa.functional.randomness import Blocks
from rectified_lpjepa.functional.sliced_statistic import Memory, check_features, mean_over_directions
from rectified_lpjepa.functional.threads import map_in_threads


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
    check_features(z)
    statistic_ = _MatchToTarget(_whole_target(target, z))
    return 2 / z.shape[1] * mean_over_directions(z, directions, statistic_, num_directions=num_directions)


class _MatchToTarget:
    """Half the squared differences to the projected target: their derivative is the differences themselves."""

    def __init__(self, target_BD: Tensor) -> None:
        self._target_BD = target_BD
        self._of_thread = threading.local()

    def __call__(self, projected_nVB: Tensor, directions_nD: Tensor) -> Tensor:
        if not hasattr(self._of_thread, "memory"):
            self._of_thread.memory = Memory()
        targets_nB = self._of_thread.memory.project(directions_nD, self._target_BD)
        return match_(projected_nVB, targets_nB) / 2


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
    return target.to(at_least_float32(z_VBD))
