"""Convolutions of feature maps that have fewer pixels than their kernel, in training on a CPU as one matrix product.

Shape suffixes: B samples, C and O channels of the input and the output, P pixels of the input map, Q of the output map,
K of the kernel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override


class SmallMapConv2d(nn.Conv2d):
    """A convolution that multiplies by one matrix where, in training on a CPU, this saves time.

    The last maps of a network for small images have 2 × 2 pixels or one, and most of a 3 × 3 kernel lies on the padding
    there. The matrix from all inputs to all outputs takes 4/9 of the convolution's multiplications at 2 × 2 pixels, 1/9
    at one. It is taken where that saves more than twice the multiplications that fill it: from 15 maps of 2 × 2 pixels
    on, and from 3 of one (times: ``rectified-lpjepa benchmark convolution``).

    Arguments, parameters and their names are those of :class:`torch.nn.Conv2d`, and so are the results of finite maps,
    to rounding. All else takes the convolution itself: larger maps, fewer of them, a GPU, and evaluation, and with it
    what is exported.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        kernel = math.prod(self.kernel_size)
        pixels = math.prod(input.shape[-2:])
        saves = input.dim() == 4 and len(input) * (kernel - pixels) > 2 * kernel * pixels
        if not (saves and self.training and input.is_cpu):
            return super().forward(input)
        height, width = input.shape[-2:]
        weight = self.weight
        # Which tap of the kernel joins which pixels: the convolution of each pixel alone by each tap alone.
        each_pixel, each_tap = (torch.eye(n, dtype=weight.dtype, device=weight.device) for n in (pixels, kernel))
        joined = F.conv2d(
            each_pixel.view(-1, 1, height, width),
            each_tap.view(-1, 1, *self.kernel_size),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
        joined_PKQ = joined.flatten(2)
        spread_OCPQ = torch.einsum("ock,pkq->ocpq", weight.flatten(2), joined_PKQ)
        matrix = spread_OCPQ.permute(3, 0, 2, 1).flatten(2).flatten(0, 1)
        bias = None if self.bias is None else self.bias.repeat(joined_PKQ.shape[2])
        # Pixels before channels, as channels_last has them.
        flat = F.linear(input.permute(0, 2, 3, 1).flatten(1), matrix, bias)
        output: Tensor = flat.unflatten(1, (*joined.shape[2:], self.out_channels)).permute(0, 3, 1, 2)
        # The weights say which layout the next layer expects.
        if weight.is_contiguous(memory_format=torch.channels_last):
            return output
        return output.clone(memory_format=torch.contiguous_format)


def spread_small_maps(model: nn.Module) -> None:
    """Make the plain convolutions of a model, in place, such as multiply by a matrix where their maps are small.

    Those with groups or with a padding of other values than zero stay as they are, and so do subclasses.

    Args:
        model: the model; its parameters, their names and its hooks stay what they are.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros":
            module.__class__ = SmallMapConv2d  # as torch.nn.utils.parametrize does, to keep the module itself
