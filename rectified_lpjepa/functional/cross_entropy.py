"""Cross-entropy of several views where some samples have no label. Shape suffixes: V views, B samples, C classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rectified_lpjepa.functional.precision import at_least_float32, full_precision

_UNLABELLED = -1


def labelled_cross_entropy(logits_VBC: Tensor, labels_B: Tensor) -> Tensor:
    """Compute the mean over views and labelled samples of −log softmax(logits)[label], in nats.

    In float32, or float64 for float64 logits, also under autocast.

    Args:
        logits_VBC: (V, B, C), floating point.
        labels_B: int64 (B,) shared by the views, 0 to C − 1, or −1 for a sample without a label.

    Returns:
        Scalar ≥ 0, differentiable; 0 where no sample has a label.

    Raises:
        ValueError: if the shapes do not fit each other, or, on the CPU alone, if a label is not one of these. On
            another device that would make the host wait.
    """
    views, batch, classes = logits_VBC.shape
    if labels_B.shape != (batch,):
        raise ValueError(
            f"Logits {tuple(logits_VBC.shape)} need one label for each of {batch} samples, got {tuple(labels_B.shape)}."
        )
    if labels_B.device.type == "cpu" and batch and not _UNLABELLED <= labels_B.min() <= labels_B.max() < classes:
        raise ValueError(
            f"Labels lie between {int(labels_B.min())} and {int(labels_B.max())}, but with {classes} logits they must "
            f"lie between 0 and {classes - 1}, or be {_UNLABELLED} for a sample without one. HINT: give the projector "
            "as many outputs as there are classes."
        )
    with full_precision(logits_VBC.device):
        logits_VBC = logits_VBC.to(at_least_float32(logits_VBC))
        labels = labels_B.repeat(views)
        total = F.cross_entropy(logits_VBC.flatten(0, 1), labels, ignore_index=_UNLABELLED, reduction="sum")
        return total / (labels != _UNLABELLED).sum().clamp(min=1)
