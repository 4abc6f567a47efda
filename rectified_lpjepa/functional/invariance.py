"""How much the features of one image differ between its views. Shape suffixes: V views, B samples, D features."""

from __future__ import annotations

from torch import Tensor

from rectified_lpjepa.functional.precision import at_least_float32, full_precision


def invariance(z_VBD: Tensor) -> Tensor:
    """Compute the mean squared difference between views, over samples, features and pairs of views.

    For two views that is the mean of (z − z')²; for more, the mean over all pairs, which equals twice the unbiased
    variance over the views and is computed as such. In float32, or float64 for float64 features, also under autocast.

    Args:
        z_VBD: features (V, B, D) of at least two views, floating point.

    Returns:
        Scalar ≥ 0, differentiable.

    Raises:
        ValueError: if there are fewer than two views.
    """
    if z_VBD.ndim != 3 or z_VBD.shape[0] < 2:
        raise ValueError(f"Invariance compares at least 2 views, features (V, B, D); got shape {tuple(z_VBD.shape)}.")
    with full_precision(z_VBD.device):
        z_VBD = z_VBD.to(at_least_float32(z_VBD))
        deviation_VBD = z_VBD - z_VBD.mean(0)
        return 2.0 / (z_VBD.shape[0] - 1) * deviation_VBD.square().sum(0).mean()
