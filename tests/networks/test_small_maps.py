"""Convolutions of small maps are PyTorch's convolutions, in values and in gradients."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

from rectified_lpjepa.networks import Backbone
from rectified_lpjepa.networks.small_maps import SmallMapConv2d, spread_small_maps


@st.composite
def _convolutions(draw: st.DrawFn) -> tuple[SmallMapConv2d, Tensor]:
    """Draw a convolution and maps around the size of its kernel."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    reach = [step * (side - 1) + 1 for step, side in zip(dilation, kernel, strict=True)]
    sides = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    least = [max(0, math.ceil((far - side) / 2)) for far, side in zip(reach, sides, strict=True)]
    padding = tuple(draw(st.integers(low, far)) for low, far in zip(least, reach, strict=True))
    torch.manual_seed(draw(st.integers(0, 999)))
    layer = SmallMapConv2d(
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        kernel,
        stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=padding if draw(st.booleans()) or max(padding) else "valid",
        dilation=dilation,
        bias=draw(st.booleans()),
        dtype=torch.float64,
    )
    layout = draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    maps = torch.randn(draw(st.sampled_from([0, 2, 20, 100])), layer.in_channels, *sides, dtype=torch.float64)
    return layer, maps.contiguous(memory_format=layout).requires_grad_()


@given(_convolutions())
def test_values_and_gradients_are_those_of_pytorchs_convolution(drawn: tuple[SmallMapConv2d, Tensor]) -> None:
    layer, maps = drawn
    outputs = [
        layer(maps),
        F.conv2d(maps, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation),
    ]
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(outputs[0])
    for ours, theirs in zip(
        *(torch.autograd.grad(output, [maps, *layer.parameters()], upstream) for output in outputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_matrix_is_taken_in_training_where_it_saves_time(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, calls = SmallMapConv2d(2, 3, 3, padding=1), []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, maps: calls.append(tuple(maps.shape)))
    for maps, side in ((3, 1), (15, 2)):
        assert layer(torch.randn(maps, 2, side, side)).shape == (maps, 3, side, side)
    assert calls == []
    for fewer in ((2, 2, 1, 1), (14, 2, 2, 2), (999, 2, 3, 3), (2, 2, 2)):
        layer(torch.randn(fewer))
        assert calls.pop() == fewer
    layer.eval()(torch.randn(15, 2, 2, 2))
    assert calls == [(15, 2, 2, 2)]


def test_it_computes_where_the_maps_are_whatever_the_default_device() -> None:
    torch.manual_seed(0)
    layer, maps = SmallMapConv2d(2, 3, 3, padding=1), torch.randn(20, 2, 2, 2)
    with torch.device("meta"):
        output = layer(maps)
    torch.testing.assert_close(output, layer.eval()(maps))


def test_a_parametrized_weight_is_computed_once() -> None:
    class Counted(nn.Module):
        count = 0

        def forward(self, weight: Tensor) -> Tensor:
            self.count += 1
            return weight

    layer, counted = SmallMapConv2d(2, 3, 3, padding=1), Counted()
    register_parametrization(layer, "weight", counted)
    counted.count = 0
    layer(torch.randn(20, 2, 2, 2))
    assert counted.count == 1


@pytest.mark.parametrize("side", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_maps_are_laid_out_as_by_pytorchs_convolution(layout: torch.memory_format, side: int) -> None:
    layer = SmallMapConv2d(2, 3, 3, padding=1).to(memory_format=layout)
    maps = torch.randn(20, 2, side, side).contiguous(memory_format=layout)
    assert layer(maps).stride() == nn.Conv2d.forward(layer, maps).stride()


@pytest.mark.parametrize("side", [1, 2])
def test_under_autocast_it_computes_in_the_lower_precision(side: int) -> None:
    torch.manual_seed(0)
    layer, maps = SmallMapConv2d(16, 8, 3, padding=1), torch.randn(32, 16, side, side)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(maps)
    assert output.dtype is torch.bfloat16
    output.float().square().sum().backward()
    exact = F.conv2d(maps, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(output.float(), exact, rtol=0.02, atol=0.02)
    (expected,) = torch.autograd.grad(exact.square().sum(), layer.weight)
    assert layer.weight.grad is not None
    assert (layer.weight.grad - expected).norm() < 0.02 * expected.norm()


def test_only_plain_convolutions_are_replaced_and_nothing_of_a_model_is_renamed() -> None:
    class Own(nn.Conv2d):
        pass

    kept = [Own(2, 2, 3), nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")]
    model = nn.Sequential(nn.Conv2d(2, 2, 3), *kept)
    before, kinds = model.state_dict(), [type(layer) for layer in kept]
    spread_small_maps(model)
    assert type(model[0]) is SmallMapConv2d
    assert [type(layer) for layer in model[1:]] == kinds
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_backbone_trains_as_its_timm_model() -> None:
    torch.manual_seed(0)
    encoder = Backbone("resnet18", small_stem_stride=2, kwargs={"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]})
    ours = encoder.build(32).double()
    theirs = copy.deepcopy(ours)
    for layer in theirs.modules():
        if isinstance(layer, SmallMapConv2d):
            layer.__class__ = nn.Conv2d
    images = torch.randn(16, 3, 32, 32, dtype=torch.float64)
    for model in (ours, theirs):
        model(images).square().sum().backward()
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-9, msg=name)
    # Of the same state evaluation gives the same bits.
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours.eval()(images), theirs.eval()(images))
