"""Corrupted copies of images at five severities, as in CIFAR-10-C and CIFAR-100-C.

Definitions and parameters are those of Hendrycks & Dietterich, Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations (ICLR 2019), in the authors' version for CIFAR, on values in [0, 1] that are not rounded
to bytes. Images of another size are given the same parameters.

All images are (N, C, H, W) of float32 values in [0, 1] with C = 1 or 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from rectified_lpjepa.functional.randomness import keyed_generator

SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(images: Tensor, indices: Sequence[int], corruption: str, severity: int, seed: int = 0) -> Tensor:
    """Make a corrupted copy of each image.

    The noise of an image is drawn on the CPU and keyed by seed, corruption, severity and the image's place in its data
    set, so that it depends neither on the batch that the image comes in nor on the device.

    Args:
        images: (N, C, H, W), float32 in [0, 1].
        indices: place of each image in its data set.
        corruption: a key of :data:`CORRUPTIONS`.
        severity: 1 (mild) to 5 (strong).
        seed: key of the noise.

    Returns:
        (N, C, H, W), float32 in [0, 1].

    Raises:
        ValueError: there is no such corruption or severity.
    """
    check_corruption(corruption, severity)
    amount = CORRUPTIONS[corruption][severity - 1]
    if corruption in _NOISES:
        draw = _NOISES[corruption]
        drawn = [
            draw(image, amount, keyed_generator(seed, corruption, severity, index))
            for image, index in zip(images.cpu(), indices, strict=True)
        ]
        return torch.stack(drawn).to(images.device).clamp_(0, 1)
    return _OPERATIONS[corruption](images, amount).clamp_(0, 1)


def check_corruption(corruption: str, severity: int) -> None:
    """Raise a ValueError where there is no such corruption or severity."""
    if corruption not in CORRUPTIONS:
        raise ValueError(f"There is no corruption {corruption!r}. Choose of {', '.join(CORRUPTIONS)}.")
    if severity not in SEVERITIES:
        raise ValueError(f"The severity of a corruption is {severity}. It must be 1, 2, 3, 4 or 5.")


def _gaussian_noise(image: Tensor, std: float, generator: torch.Generator) -> Tensor:
    return image + std * torch.randn(image.shape, generator=generator)


def _shot_noise(image: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    """Count photons, of which a white pixel sends so many on average."""
    return torch.poisson(image * photons, generator=generator) / photons


def _gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur with the border's pixels repeated, up to four standard deviations: scikit-image's way."""
    return _along_both_axes(_blur_matrix, images, sigma)


def _pixelate(images: Tensor, share: float) -> Tensor:
    """Shrink the sides to a share of them and enlarge them again, both by PIL's box filter."""
    return _along_both_axes(_pixelation_matrix, images, share)


def _along_both_axes(matrix: Callable[[int, float], Tensor], images: Tensor, amount: float) -> Tensor:
    down, across = (matrix(side, amount).to(images.device) for side in images.shape[-2:])
    return down @ images @ across.mT


# What is linear in a row of pixels is a matrix (side, side): what a library makes of the columns of the identity.


@cache
def _blur_matrix(side: int, sigma: float) -> Tensor:
    identity = np.eye(side, dtype=np.float32)
    return torch.from_numpy(gaussian_filter1d(identity, sigma, axis=0, mode="nearest", truncate=4.0))


@cache
def _pixelation_matrix(side: int, share: float) -> Tensor:
    identity = Image.fromarray(np.eye(side, dtype=np.float32))
    small = identity.resize((side, max(1, int(side * share))), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small.resize((side, side), Image.Resampling.BOX)))


def _contrast(images: Tensor, factor: float) -> Tensor:
    """Pull each channel to its mean over the image."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return mean + factor * (images - mean)


def _brightness(images: Tensor, shift: float) -> Tensor:
    """Raise the value V of hue, saturation and value, by which all channels are scaled; black becomes grey."""
    value = images.amax(dim=1, keepdim=True)
    raised = (value + shift).clamp_max(1.0)
    return torch.where(value > 0, images * (raised / value), raised)


CORRUPTIONS: dict[str, tuple[float, float, float, float, float]] = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
}
"""What each corruption's severities mean: standard deviation of the noise; photons of a white pixel; standard deviation
of the blur in pixels; share of the image's side; factor of the contrast; what is added to the value of a pixel."""

_NOISES: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
}
_OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gaussian_blur": _gaussian_blur,
    "pixelate": _pixelate,
    "contrast": _contrast,
    "brightness": _brightness,
}
