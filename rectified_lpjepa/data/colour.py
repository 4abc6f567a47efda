"""The colour operations of a view, arranged so that samples with different orders of them run together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rectified_lpjepa.data.image_ops import adjust_hue, blend, gaussian_blur, solarize

HUE = 3
"""Number of the hue among the jitter operations: 0 brightness, 1 contrast, 2 saturation, 3 hue."""


class ColourSteps(NamedTuple):
    """The colour operations as one fixed sequence for all samples: three blends, a hue, three blends, a blend to grey.

    Each sample has its hue between its other three jitter operations, in any order: those before the hue go to the
    first three blends, those after it to the next three, and what is left over does nothing. So samples of any order
    run together without sorting them.
    """

    own: Tensor
    """(7, ...) weights of the blends, see :func:`~rectified_lpjepa.data.image_ops.blend`."""
    grey: Tensor
    mean: Tensor
    hue: Tensor
    blur_sigma: Tensor | None
    solarize: Tensor

    @classmethod
    def of(
        cls,
        jitter_factors: Tensor,
        jitter_order: Tensor,
        grayscale: Tensor,
        blur_sigma: Tensor | None,
        solarize: Tensor,
    ) -> ColourSteps:
        """Arrange the jitter of each sample in the common sequence.

        Args:
            jitter_factors: (..., 4) brightness, contrast, saturation and hue.
            jitter_order: (..., 4) permutation of these four, by number: which comes first, second, third, fourth.
            grayscale: (...) bool.
            blur_sigma: (...) in pixels, 0 where there is no blur, or None when there is none at all.
            solarize: (...) bool.
        """
        brightness, contrast, saturation, hue = jitter_factors.unbind(-1)
        one, zero = torch.ones_like(hue), torch.zeros_like(hue)

        # By operation, in the order of jitter_order's numbers; then by the position in which it comes.
        own = torch.stack((brightness, contrast, saturation, one), -1).gather(-1, jitter_order)
        grey = torch.stack((zero, zero, 1 - saturation, zero), -1).gather(-1, jitter_order)
        mean = torch.stack((zero, 1 - contrast, zero, zero), -1).gather(-1, jitter_order)
        after_hue = (jitter_order == HUE).cumsum(-1).bool()

        def sequence(weight: Tensor, idle: float, last: Tensor) -> Tensor:
            before = weight.masked_fill(after_hue, idle)[..., :3]
            after = weight.masked_fill(~after_hue, idle)[..., 1:]
            return torch.cat((before, after, last.unsqueeze(-1)), -1).movedim(-1, 0).contiguous()

        to_grey = grayscale.to(hue.dtype)
        return cls(
            own=sequence(own, 1.0, 1 - to_grey),
            grey=sequence(grey, 0.0, to_grey),
            mean=sequence(mean, 0.0, zero),
            hue=hue,
            blur_sigma=blur_sigma,
            solarize=solarize,
        )

    def of_piece(self, piece: tuple[int, slice]) -> ColourSteps:
        """Take the steps of some samples of one view."""
        blends = (weight[:, *piece] for weight in self[:3])
        return ColourSteps(*blends, *(None if table is None else table[piece] for table in self[3:]))

    def apply(self, images: Tensor) -> Tensor:
        """Run the sequence.

        Args:
            images: (N, C, S, S) float32 in [0, 1], one image for each of the N samples of these steps.

        Returns:
            (N, C, S, S) float32 in [0, 1].
        """
        blends = list(zip(self.own, self.grey, self.mean, strict=True))
        for weights in blends[:3]:
            images = blend(images, *weights)
        images = adjust_hue(images, self.hue)
        for weights in blends[3:]:
            images = blend(images, *weights)
        if self.blur_sigma is not None:
            images = gaussian_blur(images, self.blur_sigma, _blur_kernel_size(images.shape[-1]))
        return solarize(images, self.solarize)


def _blur_kernel_size(side: int) -> int:
    """About a tenth of the side, odd: 23 taps for 224 pixels, and at least 3."""
    return max(3, side // 10 // 2 * 2 + 1)
