"""Convolutions of maps smaller than their kernel, by one matrix product and by PyTorch's own convolution.

rectified-lpjepa benchmark convolution
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rectified_lpjepa.benchmarks.measure import Spread, time_in_turn
from rectified_lpjepa.benchmarks.report import Cell, report
from rectified_lpjepa.networks import Backbone
from rectified_lpjepa.networks.small_maps import SmallMapConv2d, spread_small_maps

LAYERS = ((256, 2), (512, 1))
"""Channels and side of the maps: the last layers of ``cifar100_small`` and of a ResNet-18 at 32 × 32 pixels."""
SMALL = Backbone("resnet18", small_stem_stride=2, kwargs={"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]})
"""The backbone of ``cifar100_small``."""
SIDE = 32


def convolution(batch_size: int = 256, repeats: int = 15, out: str = "runs/benchmarks") -> None:
    """Time training passes of convolutions on small maps, and of the backbone of cifar100_small, on the CPU.

    Args:
        batch_size: images of a batch.
        repeats: rounds that count.
        out: folder for the JSON file.
    """
    torch.manual_seed(0)
    layers = {
        f"3 × 3, {channels} channels, {side} × {side} pixels": (
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            (channels, side, side),
        )
        for channels, side in LAYERS
    }
    models = {**layers, "backbone of cifar100_small": (plain_backbone(), (3, SIDE, SIDE))}
    rows = [_row(name, model, shape, batch_size, repeats) for name, (model, shape) in models.items()]
    baseline = "torch.nn.Conv2d; forward and backward of one batch in channels_last, float32, with the input's gradient"
    report("convolution", baseline, rows, device="cpu", out=out)


def plain_backbone() -> nn.Module:
    """Build the backbone with PyTorch's convolutions alone."""
    backbone = SMALL.build(SIDE)
    for module in backbone.modules():
        if isinstance(module, SmallMapConv2d):
            module.__class__ = nn.Conv2d  # type: ignore[assignment]  # the parent's forward on the same parameters
    return backbone


def _row(name: str, model: nn.Module, shape: tuple[int, ...], batch_size: int, repeats: int) -> dict[str, Cell]:
    plain = model.to(memory_format=torch.channels_last)
    ours = copy.deepcopy(plain)
    spread_small_maps(ours)
    maps = torch.randn(batch_size, *shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    timings = time_in_turn({"plain": _pass(plain, maps), "ours": _pass(ours, maps)}, repeats=repeats)
    return {
        "what": name,
        "batch": batch_size,
        "baseline ms": Spread.of([1000 * seconds for seconds in timings.rounds["plain"]]),
        "ours ms": Spread.of([1000 * seconds for seconds in timings.rounds["ours"]]),
        "baseline / ours": timings.ratio("plain", "ours"),
    }


def _pass(model: nn.Module, maps: Tensor) -> Callable[[], object]:
    return lambda: model(maps).square().mean().backward()
