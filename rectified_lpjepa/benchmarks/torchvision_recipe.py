"""A recipe of views as published code has it: torchvision's transforms of one PIL image at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2  # type: ignore[import-untyped]

from rectified_lpjepa.data import Augmentation


def torchvision_recipe(
    augmentation: Augmentation, size: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Callable[[Image.Image], Tensor]:
    """Express a recipe by torchvision's transforms: from a PIL image to float32 (C, size, size).

    Args:
        augmentation: the recipe.
        size: side of the views in pixels.
        mean: of each channel, for images in [0, 1]; without it and ``std`` views are not normalised.
        std: standard deviation of each channel; give both or neither.
    """
    recipe = augmentation
    jitter = v2.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    taps = max(3, size // 10 // 2 * 2 + 1)  # about a tenth of the side, odd, as ours
    blur = [v2.RandomApply([v2.GaussianBlur(taps, recipe.blur_sigma)], recipe.blur)] if recipe.blur else []
    normalise = [] if mean is None or std is None else [v2.Normalize(list(mean), list(std))]
    transform: Callable[[Image.Image], Tensor] = v2.Compose(
        [
            v2.RandomResizedCrop(size, recipe.crop_scale, recipe.crop_ratio, InterpolationMode.BICUBIC),
            v2.RandomApply([jitter], recipe.jitter),
            v2.RandomGrayscale(recipe.grayscale),
            *blur,
            v2.RandomSolarize(128, recipe.solarize),
            v2.RandomHorizontalFlip(recipe.flip),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            *normalise,
        ]
    )
    return transform
