"""Image operations on a batch in which each sample has parameters of its own, with torchvision's meaning of each.

All images are planes (N, C, H, W) of float32 values in [0, 1] with C = 1 or 3, and all parameters are tensors (N,) on
the same device. No function looks at values from the host, so nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from rectified_lpjepa.functional.precision import full_precision

GREY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in torchvision's greyscale."""

_SMALLEST_CHROMA = 1e-12  # keeps 0 / 0 out of the hue of grey pixels, whose colour is multiplied by a chroma of 0
_SHARPEST_SIGMA = 1e-3  # a Gaussian so narrow is a one at the middle tap and exact zeros beside it


def to_float(images: Tensor) -> Tensor:
    """Convert bytes to float32 in [0, 1]; floating-point images are only cast to float32."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def crop_resize(images: Tensor, boxes: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """Cut a box out of each image and resize it to a square with PIL's antialiased bicubic kernel.

    As torchvision's ``resized_crop(..., BICUBIC, antialias=True)``: crop first, so that the kernel is renormalised
    where it reaches over the edge of the box. The resize is two matrix products, along the width and then along the
    height, torchvision's order. After each one the values are clamped to [0, 1], as 8-bit images are (the kernel
    overshoots at sharp edges), but they are not rounded to 8 bits.

    Args:
        images: (N, C, H, W), uint8, or float in [0, 1].
        boxes: (N, 4) integers top, left, height, width in pixels, inside the image.
        size: side S of the result in pixels.
        flip: (N,) bool, samples to mirror from left to right, which costs nothing here; None mirrors none.

    Returns:
        (N, C, S, S) float32 in [0, 1].
    """
    N, C, H, W = images.shape
    top, left, height, width = boxes.unbind(-1)
    across_NSW = _bicubic_matrix(W, left, width, size, flip)
    down_NSH = _bicubic_matrix(H, top, height, size)
    rows = torch.bmm(to_float(images).reshape(N, C * H, W), across_NSW.mT).clamp_(0, 1)
    return (down_NSH.unsqueeze(1) @ rows.view(N, C, H, size)).clamp_(0, 1)


def _bicubic_matrix(length: int, start: Tensor, extent: Tensor, size: int, mirror: Tensor | None = None) -> Tensor:
    """Weights (N, size, length) that resize ``extent`` pixels from ``start`` to ``size`` pixels, as PIL's bicubic."""
    scale = extent.float() / size
    outputs = torch.arange(size, device=start.device, dtype=torch.float32).add_(0.5).expand(len(start), size)
    if mirror is not None:
        outputs = torch.where(mirror.unsqueeze(1), size - outputs, outputs)
    centres = outputs * scale.unsqueeze(1)
    inputs = torch.arange(length, device=start.device) - start.unsqueeze(1) + 0.5
    stretch = scale.clamp(min=1).reciprocal_().view(-1, 1, 1)
    # Keys' cubic with a = -1/2, as u² (u - 1) / 2 + v² (1 - 2v), where u = max(2 - |t|, 0) and v = max(1 - |t|, 0).
    u = (inputs.unsqueeze(1) - centres.unsqueeze(2)).mul_(stretch).abs_().neg_().add_(2).clamp_(min=0)
    v = (u - 1).clamp_(min=0)
    weights = (u * u).mul_(u.sub_(1)).mul_(0.5).addcmul_(v * v, v.mul_(-2).add_(1))
    inside = (inputs > 0) & (inputs < extent.unsqueeze(1))
    weights.mul_(inside.unsqueeze(1))
    return weights.div_(weights.sum(-1, keepdim=True))


def crop_host(image: Tensor, box: Sequence[int], size: int) -> Tensor:
    """Cut a box out of an image on the host and resize it to a square, as :func:`crop_resize` does for batches.

    It is torchvision's ``resized_crop(..., BICUBIC, antialias=True)`` on bytes: PIL's kernel with weights of 16 bits,
    several times faster than PIL where the channels of a pixel lie side by side in memory.

    Args:
        image: uint8 (C, H, W).
        box: top, left, height, width in pixels.
        size: side S of the result in pixels.

    Returns:
        uint8 (C, S, S).
    """
    top, left, height, width = box
    crop = image[:, top : top + height, left : left + width].unsqueeze(0)
    return F.interpolate(crop, size=(size, size), mode="bicubic", antialias=True).squeeze(0)


def blend(images: Tensor, own: Tensor, grey: Tensor, mean: Tensor) -> Tensor:
    """Mix each pixel with its grey value and with the image's mean grey value, clamped to [0, 1].

    With factor f this is torchvision's ``adjust_brightness`` for weights (f, 0, 0), ``adjust_saturation`` for
    (f, 1 - f, 0), ``adjust_contrast`` for (f, 0, 1 - f), ``rgb_to_grayscale`` for (0, 1, 0) and nothing for (1, 0, 0).
    A one-channel image is its own grey value.

    Args:
        images: (N, C, H, W).
        own: (N,) weight of the pixel.
        grey: (N,) weight of the pixel's grey value.
        mean: (N,) weight of the mean grey value of the image.

    Returns:
        (N, C, H, W).
    """
    N, C = images.shape[:2]
    identity_CC, weights_C = _colour_constants(C, images.device)
    pixels = images.reshape(N, C, -1)
    mixing_NCC = torch.addcmul(grey.view(N, 1, 1) * weights_C, own.view(N, 1, 1), identity_CC)
    offset_N = (pixels.mean(-1) @ weights_C).mul_(mean)
    return torch.baddbmm(offset_N.view(N, 1, 1), mixing_NCC, pixels).clamp_(0, 1).view(images.shape)


@cache
def _colour_constants(channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The identity (C, C) and the channels' weights (C,) in grey, kept so that they are sent to the device once."""
    weights = GREY_WEIGHTS if channels == 3 else (1.0,)
    return torch.eye(channels, device=device), torch.tensor(weights, device=device)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of each image as torchvision's ``adjust_hue`` does; one-channel images are returned as they are.

    With V and m the largest and smallest channel, chroma c = V - m and hue h in sixths of a turn, red is
    m + c · clamp(2 - |h|, 0, 1), where |h| is the distance around the circle; green and blue are the same about 2 and
    4. Solving for h gives |h| = (g + b - r - m) / c + 1 with the sign of g - b, without a case for each sixth.

    Args:
        images: (N, C, H, W).
        shift: (N,) share of a full turn, in [-1/2, 1/2].

    Returns:
        (N, C, H, W).
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = torch.maximum(torch.maximum(red, green), blue).sub_(smallest)
    distance = (green + blue).sub_(red).sub_(smallest).div_(chroma.clamp(min=_SMALLEST_CHROMA)).add_(1)
    hue = distance.copysign_(green - blue).add_(6 * shift.view(-1, 1, 1))
    hue.sub_((hue / 6).floor_(), alpha=6)
    turned = torch.empty_like(images)
    for channel, (centre, sign, level) in enumerate(((3, 1, -1), (2, -1, 2), (4, -1, 2))):
        share = (hue - centre).abs_().mul_(sign).add_(level).clamp_(0, 1)
        torch.addcmul(smallest, share, chroma, out=turned[:, channel])
    return turned


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur each image with a Gaussian of its own width, borders reflected, as torchvision's ``gaussian_blur`` does.

    The separable kernel is applied as two banded matrices for each sample.

    Args:
        images: (N, C, S, S).
        sigma: (N,) standard deviation in pixels; 0 leaves the image as it is.
        kernel_size: odd number of taps, at most 2 S - 1.

    Returns:
        (N, C, S, S).
    """
    side, radius = images.shape[-1], kernel_size // 2
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    taps_NK = torch.exp(-0.5 * (offsets / sigma.clamp(min=_SHARPEST_SIGMA).unsqueeze(1)).square_())
    taps_NK /= taps_NK.sum(1, keepdim=True)
    pixels = torch.arange(side, device=images.device)
    sources_KS = (side - 1) - ((side - 1) - (pixels + offsets.unsqueeze(1)).abs()).abs()
    reads_KSS = (sources_KS.unsqueeze(2) == pixels).to(images.dtype)
    band_NSS = (taps_NK @ reads_KSS.flatten(1)).view(-1, 1, side, side)
    return (band_NSS @ (images @ band_NSS.mT)).clamp_(0, 1)  # a mean, but for rounding


def fit_square(images: Tensor, size: int) -> Tensor:
    """Bring images to a size for evaluation: their central square, resized where it has another size.

    Args:
        images: uint8 (B, C, H, W).
        size: side S of the result in pixels.

    Returns:
        float32 (B, C, S, S) in [0, 1].
    """
    height, width = images.shape[-2:]
    if height == width == size:
        return to_float(images)
    side = min(height, width)
    box = torch.tensor([(height - side) // 2, (width - side) // 2, side, side], device=images.device)
    with full_precision(images.device):
        return crop_resize(images, box.expand(len(images), 4), size)


def solarize(images: Tensor, flags: Tensor) -> Tensor:
    """Invert the values from 1/2 upwards in the flagged images, torchvision's ``solarize`` with threshold 1/2.

    Args:
        images: (N, C, H, W).
        flags: (N,) bool.

    Returns:
        (N, C, H, W).
    """
    # Where x >= 1/2 the inverse 1 - x is the smaller of the two; 2 - x is never smaller.
    return torch.minimum(images, torch.where(flags, 1.0, 2.0).view(-1, 1, 1, 1) - images)


def horizontal_flip(images: Tensor, flags: Tensor) -> Tensor:
    """Mirror the flagged images from left to right.

    Args:
        images: (N, C, H, W).
        flags: (N,) bool.

    Returns:
        (N, C, H, W).
    """
    return torch.where(flags.view(-1, 1, 1, 1), images.flip(-1), images)
