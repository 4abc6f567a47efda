"""The colour operations of many views, each with an order of its own, in two arrangements that give the same.

Where looking at values is free (on a CPU), each view goes through its own operations and no others. Elsewhere all views
go through one fixed sequence that has room for every order, so that nothing waits for the device.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from rectified_lpjepa.data.image_ops import adjust_hue, blend, gaussian_blur, grey_values, solarize

HUE = 3
"""Number of the hue among the jitter operations: 0 brightness, 1 contrast, 2 saturation, 3 hue."""
NO_JITTER = (1.0, 1.0, 1.0, 0.0)
"""The factors that change nothing."""


class Colours(NamedTuple):
    """What is done to the colours of N views: jitter, grey, blur and solarize, one after the other."""

    jitter_factors: Tensor
    """(N, 4) float32: brightness, contrast, saturation and hue; :data:`NO_JITTER` where there is none."""
    jitter_order: Tensor
    """(N, 4) int64, permutation: which of these four comes first, second, third, fourth."""
    grayscale: Tensor
    """(N,) bool."""
    blur_sigma: Tensor | None
    """(N,) float32 in pixels, 0 where there is no blur; None when there is none at all."""
    solarize: Tensor
    """(N,) bool."""

    def take(self, rows: Tensor) -> Colours:
        """Take some of the views, in the order given."""
        return Colours(*(None if table is None else table[rows] for table in self))  # type: ignore[arg-type]

    def hue_position(self) -> Tensor:
        """Say when each view's hue is turned: (N,) int64, 0 for first to 3 for last, -1 for views without jitter."""
        idle = (self.jitter_factors == torch.tensor(NO_JITTER)).all(1)
        return (self.jitter_order == HUE).byte().argmax(1).masked_fill_(idle, -1)

    def apply_selectively(self, views: Tensor, step: int) -> None:
        """Take each view through its own operations and no others, in place; on a CPU.

        Args:
            views: (N, C, S, S) float32 in [0, 1], those of equal :meth:`hue_position` side by side.
            step: number of views to work on together.
        """
        weights_34N, hue_N, end = self._blends(), self.jitter_factors[:, HUE], 0
        positions, counts = self.hue_position().unique_consecutive(return_counts=True)
        for hue_position, count in zip(positions.tolist(), counts.tolist(), strict=True):
            start, end = end, end + count
            if hue_position < 0:
                continue
            group = (tensor[..., start:end].split(step, -1) for tensor in (weights_34N, hue_N))
            for piece, weights, hue in zip(views[start:end].split(step), *group, strict=True):
                images = piece
                for position in range(4):
                    turn = position == hue_position
                    images = adjust_hue(images, hue) if turn else blend(images, *weights[:, position])
                piece.copy_(images)

        for rows in _flagged(self.grayscale, step):
            views[rows] = grey_values(views.index_select(0, rows))
        if self.blur_sigma is not None:
            for rows in _flagged(self.blur_sigma > 0, step):
                blurred = gaussian_blur(views.index_select(0, rows), self.blur_sigma[rows], _blur_taps(views))
                views[rows] = blurred
        for rows in _flagged(self.solarize, step):
            views[rows] = solarize(views.index_select(0, rows), self.solarize[rows])

    def apply_as_sequence(self, views: Tensor) -> Tensor:
        """Take all views through one sequence: three blends, a hue, three blends, a blend to grey, blur, solarize.

        Each view has its hue between its other three jitter operations, in any order: those before the hue go to the
        first three blends, those after it to the next three, and what is left over does nothing.

        Args:
            views: (N, C, S, S) float32 in [0, 1].

        Returns:
            (N, C, S, S) float32 in [0, 1].
        """
        weights_34N = self._blends()
        after_hue = (self.jitter_order == HUE).cumsum(1).bool().T
        idle = _idle_blend(views.device)
        before, after = torch.where(after_hue, idle, weights_34N), torch.where(after_hue, weights_34N, idle)
        for position in range(3):
            views = blend(views, *before[:, position])
        views = adjust_hue(views, self.jitter_factors[:, HUE])
        for position in range(1, 4):
            views = blend(views, *after[:, position])
        to_grey = self.grayscale.float()
        views = blend(views, 1 - to_grey, to_grey, torch.zeros_like(to_grey))
        if self.blur_sigma is not None:
            views = gaussian_blur(views, self.blur_sigma, _blur_taps(views))
        return solarize(views, self.solarize)

    def _blends(self) -> Tensor:
        """Weights (3, 4, N) of pixel, grey and mean in the four operations, as they come; the hue's blend is idle."""
        brightness, contrast, saturation, hue = self.jitter_factors.unbind(1)
        one, zero = torch.ones_like(hue), torch.zeros_like(hue)
        own = torch.stack((brightness, contrast, saturation, one))
        grey = torch.stack((zero, zero, 1 - saturation, zero))
        mean = torch.stack((zero, 1 - contrast, zero, zero))
        return torch.stack((own, grey, mean)).gather(1, self.jitter_order.T.expand(3, -1, -1))


def _flagged(flags: Tensor, step: int) -> tuple[Tensor, ...]:
    """Numbers of the flagged views, in pieces."""
    return flags.nonzero().flatten().split(step) if flags.any() else ()


@cache
def _idle_blend(device: torch.device) -> Tensor:
    """Weights (3, 1, 1) of the blend that changes nothing, kept so that they are sent to the device once."""
    return torch.tensor([1.0, 0.0, 0.0], device=device).view(3, 1, 1)


def _blur_taps(views: Tensor) -> int:
    """About a tenth of the side, odd: 23 taps for 224 pixels, and at least 3."""
    return max(3, views.shape[-1] // 10 // 2 * 2 + 1)
