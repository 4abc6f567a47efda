"""The sliced 2-Wasserstein distance, value and gradient, against the way published code computes it.

rectified-lpjepa benchmark loss
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from rectified_lpjepa.benchmarks.measure import peak_extra_memory, time_in_turn
from rectified_lpjepa.benchmarks.report import Cell, report
from rectified_lpjepa.functional import random_directions, sliced_wasserstein

BASELINE = (
    "z @ C.T of each view, a target sample of its own for each view, torch.sort(dim=0) of both, mean squared "
    "difference, autograd's backward; floor: the three matrix products (features of both views, target, gradient) alone"
)


class Size(NamedTuple):
    """Samples of a batch, features, directions."""

    batch: int
    dim: int
    directions: int


CPU_SIZES = (Size(256, 512, 8192), Size(1024, 512, 8192), Size(128, 2048, 8192), Size(2048, 2048, 4096))
CUDA_SIZES = (*CPU_SIZES, Size(1024, 2048, 8192))
VIEWS = 2


class Inputs(NamedTuple):
    """What both sides compute with: drawn before the clock starts."""

    z: Tensor
    """Features (V, B, D) that require a gradient."""
    targets: Tensor
    """Target samples (V, B, D), one for each view; only the baseline uses more than the first."""
    directions: Tensor
    """Unit directions (N, D)."""

    @classmethod
    def draw(cls, size: Size, device: torch.device) -> Inputs:
        """Draw features that are about as far from the target as those of a network in training."""
        generator = torch.Generator(device).manual_seed(0)
        shape = (VIEWS, size.batch, size.dim)
        z = torch.randn(shape, generator=generator, device=device).add_(0.3).relu_().requires_grad_()
        targets = torch.randn(shape, generator=generator, device=device).relu_()
        return cls(z, targets, random_directions(size.directions, size.dim, generator=generator, device=device))


def published_style(z: Tensor, targets: Tensor, directions: Tensor) -> Tensor:
    """Compute the distance as published code does, for features and targets (V, B, D)."""
    losses = []
    for view, target in zip(z, targets, strict=True):
        projected = torch.sort(view @ directions.T, dim=0).values
        wanted = torch.sort(target @ directions.T, dim=0).values
        losses.append((projected - wanted).square().mean())
    return torch.stack(losses).mean()


def baseline(inputs: Inputs) -> None:
    """Value and gradient in the published style."""
    inputs.z.grad = None
    published_style(*inputs).backward()


def ours(inputs: Inputs) -> None:
    """Value and gradient in one pass."""
    inputs.z.grad = None
    sliced_wasserstein(inputs.z, inputs.targets[0], inputs.directions).backward()


def floor(inputs: Inputs) -> None:
    """The matrix products that no way of computing the gradient can do without."""
    z = inputs.z.detach().flatten(0, 1)
    projected = z @ inputs.directions.T
    inputs.targets[0] @ inputs.directions.T
    projected @ inputs.directions


def loss(repeats: int = 7, device: str = "auto", out: str = "runs/benchmarks") -> None:
    """Time the sliced Wasserstein distance and measure its memory, forward and backward, against the published style.

    Args:
        repeats: rounds that count.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is a GPU.
        out: folder for the JSON file.
    """
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    rows = [_row(size, repeats, place) for size in (CUDA_SIZES if place.type == "cuda" else CPU_SIZES)]
    report("loss", BASELINE, rows, device=place, out=out)


def _row(size: Size, repeats: int, device: torch.device) -> dict[str, Cell]:
    inputs = Inputs.draw(size, device)
    sides = {"baseline": baseline, "ours": ours, "floor": floor}
    timings = time_in_turn(
        {name: partial(side, inputs) for name, side in sides.items()}, repeats=repeats, device=device
    )
    memory = {
        name: peak_extra_memory(_prepare, size, sides[name], device, device=device) for name in ("baseline", "ours")
    }
    return {
        "B, D, N": ", ".join(map(str, size)),
        "baseline s": timings.seconds("baseline"),
        "ours s": timings.seconds("ours"),
        "floor s": timings.seconds("floor"),
        "baseline / ours": timings.ratio("baseline", "ours"),
        "ours / floor": timings.ratio("ours", "floor"),
        "baseline MiB": memory["baseline"] / 2**20,
        "ours MiB": memory["ours"] / 2**20,
    }


def _prepare(size: Size, side: Callable[[Inputs], None], device: torch.device) -> Callable[[], None]:
    side(Inputs.draw(Size(8, 8, 8), device))  # loads what stays in memory for good
    return partial(side, Inputs.draw(size, device))
