"""Augmented views of a batch of images: the recipe, what is random for each view of each sample, and its application.

A recipe (:class:`Augmentation`) draws a table of parameters for the *global* batch on the CPU; a process takes its rows
of it and applies them to its images on any device. So views depend neither on the device nor on the number of
processes. Order of operations: crop, colour jitter (its four in an order random for each sample), greyscale, blur,
solarize, flip.

Shape suffixes: V views, B samples, C channels, H × W stored pixels, S side of a view.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rectified_lpjepa.data.colour import NO_JITTER, Colours
from rectified_lpjepa.data.image_ops import crop_resize, horizontal_flip, to_float
from rectified_lpjepa.functional.precision import full_precision

CROP_TRIES = 10
"""How often torchvision's RandomResizedCrop looks for a box that fits before it takes the centre."""

_FLOATS_IN_CACHE = 1 << 18  # on a CPU the operations walk over pieces of 1 MiB, small enough for the cache


class ViewParameters(NamedTuple):
    """Everything random about V views of B samples, independent of the size of the images."""

    crop_area: Tensor
    """(V, B, 10) float64, share of the image's area in each try."""
    crop_log_ratio: Tensor
    """(V, B, 10) float64, logarithm of width / height in each try."""
    crop_position: Tensor
    """(V, B, 2) float64 in [0, 1), place of the box between top and bottom, left and right."""
    crop_ratio: Tensor
    """(V, B, 2) float64, bounds of width / height, for the centre crop when no try fits."""
    jitter_factors: Tensor
    """(V, B, 4) float32: brightness, contrast, saturation and hue, with 1, 1, 1, 0 where there is no jitter."""
    jitter_order: Tensor
    """(V, B, 4) int64, permutation: which of these four comes first, second, third, fourth."""
    grayscale: Tensor
    """(V, B) bool."""
    blur_sigma: Tensor | None
    """(V, B) float32 in pixels, 0 where there is no blur; None when the recipe has none, which saves the work."""
    solarize: Tensor
    """(V, B) bool."""
    flip: Tensor
    """(V, B) bool."""

    def rows(self, start: int, stop: int) -> ViewParameters:
        """Take the samples of one process.

        Args:
            start: first row.
            stop: row after the last.

        Returns:
            The parameters of rows ``start`` to ``stop - 1`` of all views (no copies).

        Raises:
            ValueError: the table has no such rows.
        """
        batch = self.flip.shape[1]
        if not 0 <= start < stop <= batch:
            raise ValueError(f"no rows {start} to {stop} in a table of {batch}: take 0 <= start < stop <= {batch}.")
        return ViewParameters(*(None if table is None else table[:, start:stop] for table in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Augmentation:
    """The recipe of a view, with torchvision's meaning of every operation.

    Args:
        crop_scale: smallest and largest share of the image's area in a crop.
        crop_ratio: smallest and largest width / height of a crop.
        flip: probability of a mirror image.
        jitter: probability of colour jitter.
        brightness: factor is uniform in [max(0, 1 - brightness), 1 + brightness].
        contrast: as ``brightness``.
        saturation: as ``brightness``; without effect on one-channel images.
        hue: turn is uniform in [-hue, hue], at most 1/2; without effect on one-channel images.
        grayscale: probability that colour is removed.
        blur: probability of a Gaussian blur, whose kernel has about a tenth of the view's side.
        blur_sigma: smallest and largest standard deviation of the blur, in pixels.
        solarize: probability that values from 1/2 upwards are inverted.

    Raises:
        ValueError: a value is out of its range.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.1

    def __post_init__(self) -> None:
        for name, highest in (("crop_scale", 1.0), ("crop_ratio", math.inf), ("blur_sigma", math.inf)):
            bounds = getattr(self, name)
            if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= highest or math.isinf(bounds[1]):
                limit = f" and at most {highest:g}" if math.isfinite(highest) else ""
                raise ValueError(f"{name}={bounds}: expected two numbers (low, high), 0 < low <= high{limit}.")
        for name in ("flip", "jitter", "grayscale", "blur", "solarize"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a probability, from 0 to 1.")
        for name, highest in (("brightness", math.inf), ("contrast", math.inf), ("saturation", math.inf), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= highest or math.isinf(getattr(self, name)):
                limit = "from 0 to 0.5" if name == "hue" else "at least 0 and finite"
                raise ValueError(f"{name}={getattr(self, name)}: expected a strength, {limit}.")

    def draw(self, views: int, batch: int, *, generator: torch.Generator) -> ViewParameters:
        """Draw the parameters of a global batch.

        Args:
            views: number V of views of each sample.
            batch: number B of samples over all processes.
            generator: CPU generator, keyed by the place of the batch in the run.

        Returns:
            The table on the CPU, the same for any number of processes; each takes its own with
            :meth:`ViewParameters.rows`.

        Raises:
            ValueError: fewer than one view or sample.
        """
        if views < 1 or batch < 1:
            raise ValueError(f"cannot draw views={views} of batch={batch} samples: both must be at least 1.")

        def uniform(low: float, high: float, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.rand(views, batch, *shape, generator=generator, dtype=dtype).mul_(high - low).add_(low)

        def chance(probability: float) -> Tensor:
            return torch.rand(views, batch, generator=generator) < probability

        lowest_ratio, highest_ratio = self.crop_ratio
        strengths = (self.brightness, self.contrast, self.saturation)
        factors = [uniform(max(0.0, 1 - strength), 1 + strength) for strength in strengths]
        factors.append(uniform(-self.hue, self.hue))
        unchanged = torch.tensor(NO_JITTER)
        blurred, sigma = chance(self.blur), uniform(*self.blur_sigma)
        return ViewParameters(
            crop_area=uniform(*self.crop_scale, CROP_TRIES, dtype=torch.float64),
            crop_log_ratio=uniform(math.log(lowest_ratio), math.log(highest_ratio), CROP_TRIES, dtype=torch.float64),
            crop_position=uniform(0, 1, 2, dtype=torch.float64),
            # Not expanded: memory that stands for several elements cannot be pinned.
            crop_ratio=torch.tensor(self.crop_ratio, dtype=torch.float64).repeat(views, batch, 1),
            jitter_factors=torch.where(chance(self.jitter).unsqueeze(-1), torch.stack(factors, -1), unchanged),
            jitter_order=torch.rand(views, batch, 4, generator=generator).argsort(-1),
            grayscale=chance(self.grayscale),
            blur_sigma=torch.where(blurred, sigma, 0.0) if self.blur else None,
            solarize=chance(self.solarize),
            flip=chance(self.flip),
        )


def crop_boxes(parameters: ViewParameters, height: int | Tensor, width: int | Tensor) -> Tensor:
    """Place the crops in images of a given size, by the law of torchvision's RandomResizedCrop.

    The first of ten tries (area and ratio) that fits into the image is placed at random; if none fits, the box is the
    largest one at the centre with the image's ratio, brought within the bounds.

    Args:
        parameters: of V views of B samples.
        height: of the images in pixels, one number or (B,).
        width: of the images in pixels, one number or (B,).

    Returns:
        (V, B, 4) int64: top, left, height, width.
    """
    area_VBT = parameters.crop_area
    height, width = (
        (length.to(area_VBT) if isinstance(length, Tensor) else area_VBT.new_full((), length)).expand(
            area_VBT.shape[:2]
        )
        for length in (height, width)
    )
    ratio_VBT = parameters.crop_log_ratio.exp()
    pixels_VBT = (height * width).unsqueeze(-1) * area_VBT
    widths_VBT, heights_VBT = (pixels_VBT * ratio_VBT).sqrt_().round_(), (pixels_VBT / ratio_VBT).sqrt_().round_()
    fits_VBT = (widths_VBT > 0) & (widths_VBT <= width.unsqueeze(-1))
    fits_VBT &= (heights_VBT > 0) & (heights_VBT <= height.unsqueeze(-1))
    first = fits_VBT.byte().argmax(-1, keepdim=True)
    found = fits_VBT.any(-1)

    lowest, highest = parameters.crop_ratio.unbind(-1)
    # The side that limits the box keeps its full length, the other one is shortened to the bound of the ratio.
    widest = torch.minimum(width, (height * highest).round_().clamp_(min=1))
    tallest = torch.minimum(height, (width / lowest).round_().clamp_(min=1))
    box_width = torch.where(found, widths_VBT.gather(-1, first).squeeze(-1), widest)
    box_height = torch.where(found, heights_VBT.gather(-1, first).squeeze(-1), tallest)

    down, right = parameters.crop_position.unbind(-1)
    free_rows, free_columns = height - box_height, width - box_width
    top = torch.where(found, down * (free_rows + 1), free_rows / 2).floor()
    left = torch.where(found, right * (free_columns + 1), free_columns / 2).floor()
    return torch.stack((top, left, box_height, box_width), -1).long()


def augment(images: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    """Make the views of a batch.

    Args:
        images: (B, C, H, W) as stored, uint8, or float in [0, 1]; C = 1 or 3.
        parameters: of V views of these B samples, on the images' device.
        size: side S of the views in pixels.

    Returns:
        (V, B, C, S, S) float32 in [0, 1], in at least float32 arithmetic also under autocast.

    Raises:
        ValueError: the images have another shape than described.
    """
    batch = parameters.flip.shape[1]
    _check_images(images, (batch,))
    boxes_NX, flip_N = crop_boxes(parameters, *images.shape[-2:]).flatten(0, 1), parameters.flip.flatten()

    def cut(rows: Tensor) -> Tensor:
        return crop_resize(images.index_select(0, rows % batch), boxes_NX[rows], size, flip_N[rows])

    return _make_views(cut, parameters, (images.shape[1], size, size))


def colour(crops: Tensor, parameters: ViewParameters) -> Tensor:
    """Make the views of a batch from crops that were cut on the host: all of :func:`augment` but the crop.

    Args:
        crops: (V, B, C, S, S) uint8, or float in [0, 1]; C = 1 or 3.
        parameters: of V views of these B samples, on the crops' device.

    Returns:
        (V, B, C, S, S) float32 in [0, 1].

    Raises:
        ValueError: the crops have another shape than described.
    """
    _check_images(crops, tuple(parameters.flip.shape))
    crops_NCSS, flip_N = crops.flatten(0, 1), parameters.flip.flatten()

    def cut(rows: Tensor) -> Tensor:
        return horizontal_flip(to_float(crops_NCSS.index_select(0, rows)), flip_N[rows])

    return _make_views(cut, parameters, crops.shape[2:])


def _make_views(cut: Callable[[Tensor], Tensor], parameters: ViewParameters, image: Sequence[int]) -> Tensor:
    """Cut crops out and finish their colours.

    Args:
        cut: makes float32 crops of some of the N = V · B views, by number: v · B + b is view v of sample b.
        parameters: of V views of B samples.
        image: shape (C, S, S) of a view.

    Returns:
        (V, B, C, S, S) float32.
    """
    colours, device = _colours(parameters), parameters.flip.device
    with full_precision(device):
        if device.type != "cpu":
            views_NCSS = colours.apply_as_sequence(cut(torch.arange(parameters.flip.numel(), device=device)))
        else:
            # Views whose hue is turned at the same position come to lie side by side, and are put back at the end.
            order_N = colours.hue_position().argsort()
            views_NCSS = torch.empty(len(order_N), *image)
            step = max(1, _FLOATS_IN_CACHE // math.prod(image))
            for piece, rows in zip(views_NCSS.split(step), order_N.split(step), strict=True):
                piece.copy_(cut(rows))
            colours.take(order_N).apply_selectively(views_NCSS, step)
            views_NCSS = views_NCSS.index_select(0, order_N.argsort())
    return views_NCSS.view(*parameters.flip.shape, *image)


def _colours(parameters: ViewParameters) -> Colours:
    return Colours(
        parameters.jitter_factors.flatten(0, 1).float(),  # a trainer with double precision has widened them
        parameters.jitter_order.flatten(0, 1),
        parameters.grayscale.flatten(),
        None if parameters.blur_sigma is None else parameters.blur_sigma.flatten().float(),
        parameters.solarize.flatten(),
    )


def _check_images(images: Tensor, leading: tuple[int, ...]) -> None:
    if images.ndim != len(leading) + 3 or images.shape[: len(leading)] != leading or images.shape[-3] not in (1, 3):
        expected = ", ".join(map(str, leading))
        raise ValueError(
            f"images of shape {tuple(images.shape)} do not go with parameters of {leading[-1]} samples: expected "
            f"({expected}, 1 or 3 channels, height, width). A process takes its share by parameters.rows(start, stop)."
        )
