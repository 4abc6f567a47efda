"""How far the features of each view are from the mean of the views. Shape suffixes: V views, B samples, D features."""

from __future__ import annotations

from torch import Tensor

from rectified_lpjepa.functional.precision import at_least_float32, full_precision


def invariance_to_mean(z_VBD: Tensor, global_views: int | None = None) -> Tensor:
    """Compute the mean squared difference to the mean of the views, over views, samples and features.

    This is the invariance of LeJEPA (arXiv 2511.08544), a quarter of the mean of (z − z')² for two views. Where some
    views are global crops and the others local ones, all are compared with the mean of the global ones. The mean has a
    gradient, too. In float32, or float64 for float64 features, also under autocast.

    Args:
        z_VBD: features (V, B, D) of at least two views, floating point.
        global_views: number of views whose mean is taken, the first ones; None for all.

    Returns:
        Scalar ≥ 0, differentiable.

    Raises:
        ValueError: if there are fewer than two views, or fewer than ``global_views``, or these are fewer than one.
    """
    if z_VBD.ndim != 3 or z_VBD.shape[0] < 2:
        raise ValueError(f"Invariance compares at least 2 views, features (V, B, D); got shape {tuple(z_VBD.shape)}.")
    if global_views is not None and not 1 <= global_views <= z_VBD.shape[0]:
        raise ValueError(
            f"The number of global views must lie between 1 and {z_VBD.shape[0]}, the number of views, got "
            f"{global_views}."
        )
    with full_precision(z_VBD.device):
        z_VBD = z_VBD.to(at_least_float32(z_VBD))
        return (z_VBD - z_VBD[:global_views].mean(0)).square().mean()
