"""The contrastive loss of SimCLR. Shape suffixes: V, U views, B samples, A anchor samples, D features."""

from __future__ import annotations

import torch
from torch import Tensor

from rectified_lpjepa.functional.precision import at_least_float32, full_precision, matmul


def nt_xent(z_VBD: Tensor, *, temperature: float, anchors: range | None = None) -> Tensor:
    """Compute the normalised temperature-scaled cross-entropy (SimCLR, arXiv 2002.05709, Eq. 1).

    Every row is an anchor, and every other view of its sample a positive:

        mean over pairs (i, j) of one sample of −log exp(s_ij / τ) / Σ_{k ≠ i} exp(s_ik / τ)

    with the cosine similarity s. For two views that is SimCLR's loss, for more the outer mean over positives of
    arXiv 2004.11362 (Eq. 2). A row of zeros is divided by one: its similarity to all rows is 0 and its gradient finite.
    In float32, or float64 for float64 features, also under autocast.

    Args:
        z_VBD: features (V, B, D) of the global batch, floating point, of at least two views.
        temperature: τ > 0.
        anchors: the samples whose rows are anchors, for a share of the work; None for all. The loss is the mean over
            their pairs.

    Returns:
        Scalar ≥ 0, differentiable.

    Raises:
        ValueError: if there are fewer than two views.
    """
    if z_VBD.ndim != 3 or z_VBD.shape[0] < 2:
        raise ValueError(
            f"A contrastive loss needs at least 2 views, features (V, B, D); got shape {tuple(z_VBD.shape)}."
        )
    views, batch, _ = z_VBD.shape
    anchors = range(batch) if anchors is None else anchors
    with full_precision(z_VBD.device):
        unit_VBD = _unit_rows(z_VBD.to(at_least_float32(z_VBD)))
        unit_VAD = unit_VBD[:, anchors.start : anchors.stop]
        scaled_VAUB = matmul(unit_VAD.flatten(0, 1), unit_VBD.flatten(0, 1).T).unflatten(1, (views, batch))
        scaled_VAUB = scaled_VAUB.unflatten(0, (views, len(anchors))) / temperature
        # Its anchor itself is no choice.
        same_view_VU = torch.eye(views, dtype=torch.bool, device=z_VBD.device)
        same_sample_AB = torch.eye(batch, dtype=torch.bool, device=z_VBD.device)[anchors.start : anchors.stop]
        is_anchor_VAUB = same_view_VU[:, None, :, None] & same_sample_AB[:, None, :]
        log_total_VA = scaled_VAUB.masked_fill(is_anchor_VAUB, -torch.inf).flatten(2).logsumexp(2)
        positive_VUA = scaled_VAUB.diagonal(offset=anchors.start, dim1=1, dim2=3)
        pairs_VUA = (log_total_VA[:, None] - positive_VUA).masked_fill(same_view_VU[:, :, None], 0)
        mean: Tensor = pairs_VUA.sum() / (views * (views - 1) * len(anchors))
    return mean


def _unit_rows(z_VBD: Tensor) -> Tensor:
    norm_VB1 = torch.linalg.vector_norm(z_VBD, dim=-1, keepdim=True)
    return z_VBD / torch.where(norm_VB1 > 0, norm_VB1, 1)
