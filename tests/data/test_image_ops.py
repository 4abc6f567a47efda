"""Operations on batches of images against torchvision's and PIL's on single ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from rectified_lpjepa.data.image_ops import (
    adjust_hue,
    blend,
    crop_host,
    crop_resize,
    gaussian_blur,
    horizontal_flip,
    solarize,
)

BICUBIC = InterpolationMode.BICUBIC
BYTE = 1 / 255
BOXES = [
    (0, 0, 37, 53),
    (5, 9, 30, 40),
    (3, 50, 7, 3),
    (20, 0, 17, 53),
    (36, 52, 1, 1),
    (0, 10, 37, 2),
    (11, 7, 16, 16),
]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def colours() -> Tensor:
    """Images of random colours, and of those where hues are tied, undefined or extreme."""
    levels = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0])
    corners = torch.cartesian_prod(levels, levels, levels).T.reshape(3, 5, 25)
    return torch.cat([rand(5, 3, 5, 25), corners.expand(5, 3, 5, 25)])


def spread(low: float, high: float) -> Tensor:
    return torch.linspace(low, high, 10)


def assert_close(actual: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def each(operation, images: Tensor, *parameters: Tensor) -> Tensor:
    rows = zip(images, *(values.tolist() for values in parameters), strict=True)
    return torch.stack([operation(image, *values) for image, *values in rows])


ZERO, ONE = torch.zeros(10), torch.ones(10)


@pytest.mark.parametrize("channels", [1, 3])
def test_blend_is_brightness_contrast_saturation_grey_and_nothing(channels: int) -> None:
    images, factor = colours()[:, :channels], spread(0, 2)
    assert_close(blend(images, factor, ZERO, ZERO), each(reference.adjust_brightness, images, factor))
    assert_close(blend(images, factor, 1 - factor, ZERO), each(reference.adjust_saturation, images, factor))
    assert_close(blend(images, factor, ZERO, 1 - factor), each(reference.adjust_contrast, images, factor))
    assert_close(blend(images, ZERO, ONE, ZERO), reference.rgb_to_grayscale(images, num_output_channels=channels))
    assert torch.equal(blend(images, ONE, ZERO, ZERO), images)


@pytest.mark.parametrize("bound", [0.1, 0.5])
def test_hue(bound: float) -> None:
    shift = spread(-bound, bound)
    assert_close(adjust_hue(colours(), shift), each(reference.adjust_hue, colours(), shift))


def test_hue_leaves_one_channel_alone() -> None:
    images = rand(10, 1, 4, 4)
    assert torch.equal(adjust_hue(images, spread(-0.5, 0.5)), images)


@given(st.tuples(*[st.floats(0, 1, width=32)] * 3), st.floats(-0.5, 0.5))
@settings(max_examples=100, database=None)
def test_hue_of_any_colour(colour: tuple[float, float, float], shift: float) -> None:
    pixel = torch.tensor(colour).view(1, 3, 1, 1)
    assert_close(adjust_hue(pixel, torch.tensor([shift])), reference.adjust_hue(pixel, shift))


@pytest.mark.parametrize(("side", "kernel_size"), [(32, 3), (40, 23), (12, 23), (8, 3)])
def test_gaussian_blur(side: int, kernel_size: int) -> None:
    images, sigma = rand(10, 3, side, side), spread(0.1, 2.0)
    expected = each(lambda image, s: reference.gaussian_blur(image, [kernel_size] * 2, [s] * 2), images, sigma)
    assert_close(gaussian_blur(images, sigma, kernel_size), expected)
    assert torch.equal(gaussian_blur(images, ZERO, kernel_size), images)


def test_solarize_and_flip_touch_flagged_images_only() -> None:
    images = colours()
    flags = torch.arange(10) % 2 == 0
    assert_close(solarize(images, flags)[::2], reference.solarize(images[::2], threshold=0.5), atol=1e-7)
    assert torch.equal(solarize(images, flags)[1::2], images[1::2])
    assert torch.equal(horizontal_flip(images, flags)[::2], reference.horizontal_flip(images[::2]))
    assert torch.equal(horizontal_flip(images, flags)[1::2], images[1::2])


@pytest.mark.parametrize("size", [8, 24, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_crop_resize_is_torchvisions(size: int, channels: int) -> None:
    # Between 1/4 and 3/4 the kernel cannot overshoot [0, 1], so that no clamp acts.
    images = rand(len(BOXES), channels, 37, 53) / 2 + 0.25
    flip = torch.arange(len(BOXES)) % 2 == 0
    expected = torch.stack(
        [
            reference.resized_crop(image, *box, size=[size, size], interpolation=BICUBIC, antialias=True)
            for image, box in zip(images, BOXES, strict=True)
        ]
    )
    assert_close(crop_resize(images, torch.tensor(BOXES), size), expected)
    assert_close(crop_resize(images, torch.tensor(BOXES), size, flip), horizontal_flip(expected, flip))


def pil_crop(pixels_HWC: NDArray[np.uint8], box: tuple[int, int, int, int], size: int) -> Tensor:
    """Cut with PIL, which is made to resize the width first: left to itself it begins where that is less work."""
    top, left, height, width = box
    channels = pixels_HWC.shape[-1]
    image = Image.fromarray(pixels_HWC if channels == 3 else pixels_HWC[..., 0])
    image = image.crop((left, top, left + width, top + height))
    for shape in ((size, height), (size, size)):
        image = image.resize(shape, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).reshape(size, size, channels).permute(2, 0, 1)


@pytest.mark.parametrize("size", [8, 24, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side_by_side", [True, False], ids=["pixels", "planes"])
def test_crops_of_bytes_are_pils(size: int, channels: int, side_by_side: bool) -> None:
    """Black-and-white noise overshoots everywhere: this fails without the clamp between the two passes."""
    noise = 255 * torch.randint(0, 2, (len(BOXES), channels, 37, 53), generator=torch.Generator().manual_seed(0))
    images = noise.to(torch.uint8)
    batched = crop_resize(images, torch.tensor(BOXES), size)
    for image, box, ours in zip(images, BOXES, batched, strict=True):
        pixels = image.permute(1, 2, 0).contiguous()
        host = crop_host(pixels.permute(2, 0, 1) if side_by_side else image, box, size)
        assert host.dtype == torch.uint8
        assert (host.int() - pil_crop(pixels.numpy(), box, size).int()).abs().max() <= 1
        # Bytes are rounded after each of the two passes, and the weights of the kernel to 16 bits.
        assert_close(ours, host / 255, atol=1.25 * BYTE)
        torchvision = reference.resized_crop(image, *box, [size, size], interpolation=BICUBIC, antialias=True)
        assert_close(host / 255, torchvision / 255, atol=2 * BYTE + 1e-6)


def test_whole_box_of_the_same_size_changes_nothing() -> None:
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert_close(crop_resize(images, torch.tensor([[0, 0, 16, 16]] * 2), 16), images / 255, atol=1e-6)
