"""The direction along which two samples differ most.

Shape suffixes: B samples, D features, N directions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from rectified_lpjepa.functional.precision import at_least_float32, full_precision


def projected_wasserstein(z_BD: Tensor, y_BD: Tensor, directions_ND: Tensor) -> Tensor:
    """Compute the squared 2-Wasserstein distance between two samples along each direction.

    Args:
        z_BD: one sample, floating point.
        y_BD: the other, as many values.
        directions_ND: unit directions.

    Returns:
        (N,), with a gradient to the directions.

    Raises:
        ValueError: the samples differ in shape.
    """
    if z_BD.shape != y_BD.shape:
        raise ValueError(f"Both samples must have one shape, got {tuple(z_BD.shape)} and {tuple(y_BD.shape)}.")
    dtype = at_least_float32(z_BD)
    with full_precision(z_BD.device):
        z_NB, y_NB = (directions_ND.to(dtype) @ sample.to(dtype).T for sample in (z_BD, y_BD))
    return (z_NB.sort(dim=1).values - y_NB.sort(dim=1).values).square().mean(1)


def ascend_directions(z_BD: Tensor, y_BD: Tensor, directions_ND: Tensor, *, steps: int) -> Tensor:
    """Turn directions to where two samples differ more: gradient ascent on the unit sphere.

    The max-sliced Wasserstein distance (Deshpande et al. 2019) is that along the best of them. Each step moves along
    the tangent by a length that falls from ½ to 0, whatever the size of the gradient.

    Args:
        z_BD: one sample.
        y_BD: the other.
        directions_ND: where to start, unit directions.
        steps: number of steps.

    Returns:
        (N, D), unit directions: of each start the best direction that was met.
    """
    current_ND = best_ND = directions_ND
    best_N = directions_ND.new_full((len(directions_ND),), -torch.inf)
    for step in range(steps + 1):
        with torch.enable_grad():
            leaf_ND = current_ND.detach().requires_grad_()
            distance_N = projected_wasserstein(z_BD, y_BD, leaf_ND)
            (gradient_ND,) = torch.autograd.grad(distance_N.sum(), leaf_ND)
        better_N = distance_N.detach() > best_N
        best_N = torch.where(better_N, distance_N.detach(), best_N)
        best_ND = torch.where(better_N.unsqueeze(1), current_ND, best_ND)
        tangent_ND = gradient_ND - (gradient_ND * current_ND).sum(1, keepdim=True) * current_ND
        length = 0.5 * (1 - step / max(steps, 1))
        current_ND = normalize(current_ND + length * normalize(tangent_ND, dim=1), dim=1)
    return best_ND
