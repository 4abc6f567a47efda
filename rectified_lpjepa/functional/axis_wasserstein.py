"""The 2-Wasserstein distance between single features and a law: sliced along the axes, with no sample of the target.

A random direction in D dimensions sees a mixture of all features, nearly normal whatever each of them is. The axes are
the directions along which the features themselves are compared, zeros included, and along which the target's quantiles
are known exactly.

Shape suffixes: V views, B samples, D features, N features that are compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rectified_lpjepa.functional.closed_form import with_gradient
from rectified_lpjepa.functional.matching import match_
from rectified_lpjepa.functional.precision import at_least_float32
from rectified_lpjepa.functional.threads import map_in_threads


def axis_wasserstein(
    z: Tensor, quantiles: Tensor, features: Tensor | None = None, *, num_features: int | None = None
) -> Tensor:
    """Compute the squared 2-Wasserstein distance of single features to the law that each of them is asked to follow.

        mean over views v and features d of 1/B · ‖sort(z_vd) − quantiles‖²

    With the quantiles of :func:`~rectified_lpjepa.functional.quantized_law.quantized_law` that is the distance between
    the law and the batch, less the part that no batch of B values can avoid. It is computed in float32, or float64 if
    the features are, also under autocast.

    Args:
        z: features (V, B, D), floating point.
        quantiles: what a batch of B values looks like under the law (B,), in any order.
        features: int64 (N,) places of the features that are compared; None for all of them.
        num_features: for a share of the features: the number of all that are compared. The mean over features becomes
            their sum divided by this number, so that the values of all shares add up; a share may be empty.

    Returns:
        Scalar ≥ 0, with a gradient to the features alone.

    Raises:
        ValueError: if the shapes do not fit each other, or nothing is compared.
        RuntimeError: in a backward pass through the gradient: there is no second derivative.
    """
    if z.ndim != 3 or quantiles.shape != z.shape[1:2] or not len(quantiles):
        raise ValueError(
            f"Expected features (V, B, D) of B ≥ 1 samples and as many quantiles (B,), got {tuple(z.shape)} and "
            f"{tuple(quantiles.shape)}."
        )
    z_VBD = z.to(at_least_float32(z))
    views, batch, dim = z_VBD.shape
    num = (dim if features is None else len(features)) if num_features is None else num_features
    if num < 1:
        raise ValueError("There must be at least 1 feature to compare, got none.")
    scale = 1.0 / (views * batch * num)
    with torch.no_grad():
        chosen_VBN = z_VBD if features is None else z_VBD.index_select(2, features)
        differences_NVB = chosen_VBN.permute(2, 0, 1).clone(memory_format=torch.contiguous_format)
        targets_1B = quantiles.to(z_VBD).unsqueeze(0)
        threads = torch.get_num_threads() if z_VBD.device.type == "cpu" else 1
        pieces = differences_NVB.split(max(1, -(-len(differences_NVB) // threads)))
        squares = z_VBD.new_zeros((), dtype=torch.float64)
        for part in map_in_threads(lambda piece: match_(piece, targets_1B.clone()), pieces):
            squares += part
        gradient_VBD = None
        if z.requires_grad:
            gradient_VBD = differences_NVB.mul_(2 * scale).permute(1, 2, 0)
            if features is not None:
                gradient_VBD = torch.zeros_like(z_VBD).index_copy_(2, features, gradient_VBD)
        distance = (squares * scale).to(z_VBD.dtype)
    return with_gradient(distance, z_VBD, gradient_VBD)
