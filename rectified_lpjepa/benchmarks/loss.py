"""The sliced 2-Wasserstein distance, value and gradient, against the way published code computes it.

rectified-lpjepa benchmark loss
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rectified_lpjepa.benchmarks.measure import Timings, choose_device, peak_extra_memory, time_in_turn
from rectified_lpjepa.benchmarks.report import Cell, report
from rectified_lpjepa.functional import random_directions, sliced_wasserstein
from rectified_lpjepa.objectives import Axes, Directions, RDMReg, Target

DISTANCE_BASELINE = (
    "z @ C.T of each view, a target sample of its own for each view, torch.sort(dim=0) of both, mean squared "
    "difference, autograd's backward; floor: the three matrix products (features of both views, target, gradient) alone"
)
OBJECTIVE_BASELINE = (
    "the same distance with new directions and, for each view, a new target sample (p = 2, μ = 0) each step, plus the "
    "mean squared difference of the views; controlled: ours with axes and with eigenvectors of the lower half among "
    "the directions, as in our own recipes"
)


class Size(NamedTuple):
    """Samples of a batch, features, directions."""

    batch: int
    dim: int
    directions: int


CPU_SIZES = (
    Size(256, 512, 1024),
    Size(256, 512, 8192),
    Size(1024, 512, 8192),
    Size(128, 2048, 8192),
    Size(2048, 2048, 4096),
)
CUDA_SIZES = (*CPU_SIZES, Size(1024, 2048, 8192))
VIEWS = 2
Side = Callable[["Inputs"], None]


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


def published_objective(z: Tensor, num: int) -> Tensor:
    """Compute the whole objective for features (V, B, D) as published code does, with everything it draws."""
    directions = F.normalize(torch.randn(num, z.shape[-1], device=z.device), dim=-1)
    targets = torch.randn(z.shape, device=z.device).relu()
    return 25 * F.mse_loss(z[0], z[1]) + 125 * published_style(z, targets, directions)


def objective_baseline(inputs: Inputs) -> None:
    """Value and gradient of the objective in the published style."""
    inputs.z.grad = None
    published_objective(inputs.z, len(inputs.directions)).backward()


def objective_ours(inputs: Inputs) -> None:
    """Value and gradient of the objective in one pass."""
    inputs.z.grad = None
    objective = RDMReg(Target(p=2.0), Directions("random", len(inputs.directions)))
    objective(inputs.z, inputs.z, seed=0, step=0).loss.backward()


def objective_controlled(inputs: Inputs) -> None:
    """Value and gradient of the objective with what keeps the sparsity at what is asked for."""
    inputs.z.grad = None
    objective = RDMReg(Target(p=2.0), Directions("eigen_bottom_half", len(inputs.directions)), axes=Axes(0.5))
    objective(inputs.z, inputs.z, seed=0, step=0).loss.backward()


def loss(repeats: int = 7, device: str = "auto", out: str = "runs/benchmarks") -> None:
    """Time the sliced Wasserstein distance, and the objective around it, forward and backward, and measure the memory.

    Args:
        repeats: rounds that count.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is a GPU.
        out: folder for the JSON files.
    """
    place = choose_device(device)
    sizes = CUDA_SIZES if place.type == "cuda" else CPU_SIZES
    report("loss", DISTANCE_BASELINE, [_distance_row(size, repeats, place) for size in sizes], device=place, out=out)
    print()  # noqa: T201
    rows = [_objective_row(size, repeats, place) for size in sizes]
    report("objective", OBJECTIVE_BASELINE, rows, device=place, out=out)


def _distance_row(size: Size, repeats: int, device: torch.device) -> dict[str, Cell]:
    timings = _time({"baseline": baseline, "ours": ours, "floor": floor}, size, repeats, device)
    return {
        "B, D, N": ", ".join(map(str, size)),
        "baseline s": timings.seconds("baseline"),
        "ours s": timings.seconds("ours"),
        "floor s": timings.seconds("floor"),
        "baseline / ours": timings.ratio("baseline", "ours"),
        "ours / floor": timings.ratio("ours", "floor"),
        "baseline MiB": _memory(baseline, size, device),
        "ours MiB": _memory(ours, size, device),
    }


def _objective_row(size: Size, repeats: int, device: torch.device) -> dict[str, Cell]:
    sides: dict[str, Side] = {
        "baseline": objective_baseline,
        "ours": objective_ours,
        "controlled": objective_controlled,
    }
    timings = _time(sides, size, repeats, device)
    return {
        "B, D, N": ", ".join(map(str, size)),
        "baseline s": timings.seconds("baseline"),
        "ours s": timings.seconds("ours"),
        "controlled s": timings.seconds("controlled"),
        "baseline / ours": timings.ratio("baseline", "ours"),
        "controlled / ours": timings.ratio("controlled", "ours"),
        "baseline MiB": _memory(objective_baseline, size, device),
        "ours MiB": _memory(objective_ours, size, device),
        "controlled MiB": _memory(objective_controlled, size, device),
        "ours MiB, 4 N": _memory(objective_ours, size._replace(directions=4 * size.directions), device),
    }


def _time(sides: dict[str, Side], size: Size, repeats: int, device: torch.device) -> Timings:
    inputs = Inputs.draw(size, device)
    return time_in_turn({name: partial(side, inputs) for name, side in sides.items()}, repeats=repeats, device=device)


def _memory(side: Side, size: Size, device: torch.device) -> float:
    return peak_extra_memory(_prepare, size, side, device, device=device) / 2**20


def _prepare(size: Size, side: Side, device: torch.device) -> Callable[[], None]:
    side(Inputs.draw(Size(8, 8, 8), device))  # loads what stays in memory for good
    return partial(side, Inputs.draw(size, device))
