"""Unit directions onto which features are projected.

Shape suffixes: V views, B samples, D features, N directions, K eigen directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rectified_lpjepa.functional.precision import at_least_float32, full_precision


def random_directions(
    num: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw directions uniformly from the unit sphere.

    Args:
        num: number of directions N, at least 1.
        dim: number of features D, at least 1.
        generator: source of randomness on ``device``; None uses the global one.
        dtype: float32 or float64.
        device: where to draw; None means the default device.

    Returns:
        (N, D), every row of unit length.

    Raises:
        ValueError: if ``num`` or ``dim`` is below 1.
    """
    _check_counts(num, dim)
    gaussian_ND = torch.randn(num, dim, generator=generator, dtype=dtype, device=device)
    return gaussian_ND.div_(gaussian_ND.norm(dim=-1, keepdim=True))


def orthogonal_directions(
    num: int,
    dim: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw random orthonormal bases, one after the other, until there are enough directions.

    Each row alone is uniform on the unit sphere, as in :func:`random_directions`; inside each block of D rows (the last
    may be cut short) the rows are orthonormal, which lowers the variance of a mean over directions.

    Args:
        num: number of directions N, at least 1.
        dim: number of features D, at least 1.
        generator: source of randomness on ``device``; None uses the global one.
        dtype: float32 or float64.
        device: where to draw; None means the default device.

    Returns:
        (N, D), every row of unit length.

    Raises:
        ValueError: if ``num`` or ``dim`` is below 1.
    """
    _check_counts(num, dim)
    bases, rest = divmod(num, dim)
    blocks = []
    for count, rows in ((bases, dim), (1, rest)):
        if count and rows:
            gaussian = torch.randn(count, dim, rows, generator=generator, dtype=dtype, device=device)
            with full_precision(gaussian.device):
                q, r = torch.linalg.qr(gaussian)
            # QR alone prefers some bases: with R's diagonal made positive Q is uniform (Mezzadri 2007, Eq. 5.6).
            q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
            blocks.append(q.mT.reshape(count * rows, dim))
    return torch.cat(blocks)


def eigen_directions(z_VBD: Tensor, *, bottom_half: bool = False) -> Tensor:
    """Return the eigenvectors of each view's feature covariance: right singular vectors of the centred features.

    Centring takes one dimension away, so there are K = min(B − 1, D) of them.

    Args:
        z_VBD: features (V, B, D) of the **global** batch, floating point.
        bottom_half: keep only the ⌊K/2⌋ eigenvectors of least variance.

    Returns:
        (V, K, D), detached, orthonormal rows in the order of falling variance, float32 (float64 for float64 features).
    """
    rows = eigen_rows(z_VBD.shape[-2], z_VBD.shape[-1], bottom_half=bottom_half)
    z_VBD = z_VBD.detach().to(at_least_float32(z_VBD))
    centred_VBD = z_VBD - z_VBD.mean(-2, keepdim=True)
    # A decomposition fails on NaN; with finite directions it is the loss that turns NaN, where it is reported.
    centred_VBD = centred_VBD.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    with full_precision(z_VBD.device):
        vectors_VKD: Tensor = torch.linalg.svd(centred_VBD, full_matrices=False).Vh
    return vectors_VKD[:, rows.start : rows.stop]


def eigen_rows(batch: int, dim: int, *, bottom_half: bool = False) -> range:
    """Say which singular vectors, counted from the largest variance, :func:`eigen_directions` returns.

    Args:
        batch: number of samples B.
        dim: number of features D.
        bottom_half: see :func:`eigen_directions`.
    """
    total = min(batch - 1, dim)
    return range(total - total // 2 if bottom_half else 0, total)


def _check_counts(num: int, dim: int) -> None:
    if num < 1:
        raise ValueError(f"There must be at least 1 direction, but {num} were asked for.")
    if dim < 1:
        raise ValueError(f"Directions need at least 1 dimension, but dim is {dim}.")
