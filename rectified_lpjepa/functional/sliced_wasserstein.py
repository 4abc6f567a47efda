"""The sliced 2-Wasserstein distance between features and a sample of the target, written from the equation.

Shape suffixes: V views, B samples, D features, N directions.
"""

from __future__ import annotations

from torch import Tensor

from rectified_lpjepa.functional.precision import at_least_float32, full_precision, matmul


def sliced_wasserstein(z: Tensor, target: Tensor, directions: Tensor, *, num_directions: int | None = None) -> Tensor:
    """Compute the squared sliced 2-Wasserstein distance (arXiv 2602.01456, Eqs. 14-16).

    For each direction the projected features and the projected target sample are sorted and compared:

        mean over views v and directions n of 1/B · ‖sort(z_v c_n) − sort(y c_n)‖²

    It is computed in float32, or float64 if any input is, also under autocast.

    Args:
        z: features (V, B, D), floating point.
        target: sample of the target (B, D), shared by the views.
        directions: unit directions (N, D), shared by the views, or (V, N, D), each view's own.
        num_directions: for a share of the directions: the number of all of them. The mean over directions becomes their
            sum divided by this number, so that the values of all shares add up to the whole; a share may be empty.

    Returns:
        Scalar ≥ 0, differentiable.

    Raises:
        ValueError: if the shapes do not fit each other, or the batch or the directions are empty.
    """
    _check_shapes(z, target, directions, share=num_directions is not None)
    dtype = at_least_float32(z, target, directions)
    z_VBD, target_BD, directions = z.to(dtype), target.to(dtype), directions.to(dtype)
    with full_precision(z.device):
        # Samples on the last axis: sorting runs along contiguous memory.
        sorted_VNB = matmul(directions, z_VBD.mT).sort(dim=-1).values
        sorted_target = matmul(directions, target_BD.mT).sort(dim=-1).values
        distances_VN = (sorted_VNB - sorted_target).square().mean(-1)
        return distances_VN.mean(0).sum() / (num_directions or directions.shape[-2])


def _check_shapes(z: Tensor, target: Tensor, directions: Tensor, *, share: bool) -> None:
    if z.ndim != 3 or target.ndim != 2 or directions.ndim not in (2, 3):
        raise ValueError(
            "Expected features (V, B, D), target (B, D) and directions (N, D) or (V, N, D), got "
            f"{tuple(z.shape)}, {tuple(target.shape)} and {tuple(directions.shape)}."
        )
    views, batch, dim = z.shape
    if batch < 1:
        raise ValueError(f"The batch must hold at least 1 sample, but the features have shape {tuple(z.shape)}.")
    if target.shape[0] != batch:
        raise ValueError(
            f"The target must hold as many samples as the batch, but it holds {target.shape[0]} and the batch {batch}."
        )
    if target.shape[1] != dim or directions.shape[-1] != dim:
        raise ValueError(
            f"Features, target and directions must have the same dimension, got {dim}, {target.shape[1]} and "
            f"{directions.shape[-1]}."
        )
    if directions.ndim == 3 and directions.shape[0] != views:
        raise ValueError(
            f"Directions (V, N, D) need one set for each of the {views} views, but there are {directions.shape[0]}."
        )
    if directions.shape[-2] < 1 and not share:
        raise ValueError("There must be at least 1 direction, got none.")
