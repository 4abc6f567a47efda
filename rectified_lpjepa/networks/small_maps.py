"""Convolutions of feature maps that have fewer pixels than their kernel, as one matrix product.

Shape suffixes: B samples, C and O channels of the input and the output, P pixels of the input map, Q of the output map,
K of the kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override


class SmallMapConv2d(nn.Conv2d):
    """A convolution that multiplies by one matrix where, in training on a CPU, the map is smaller than the kernel.

    The last maps of a network for small images have 2 × 2 pixels or one, and most of a 3 × 3 kernel lies on the padding
    there. The matrix from all inputs to all outputs takes 4/9 of the convolution's multiplications at 2 × 2 pixels, 1/9
    at one, and less of its time (``rectified-lpjepa benchmark convolution``).

    Arguments, parameters and their names are those of :class:`torch.nn.Conv2d`, and so are the results, to rounding.
    Evaluation, and with it what is exported, a GPU and larger maps take the convolution itself.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        height, width = input.shape[-2:]
        kernel = self.weight.shape[-2:].numel()
        if not (self.training and input.is_cpu and height * width < kernel):
            return super().forward(input)
        # Which tap of the kernel joins which pixels: the convolution of each pixel alone by each tap alone.
        pixels, taps = (torch.eye(count, dtype=self.weight.dtype) for count in (height * width, kernel))
        joined = F.conv2d(
            pixels.view(-1, 1, height, width),
            taps.view(-1, 1, *self.kernel_size),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
        joined_PKQ = joined.flatten(2)
        if joined_PKQ.numel() > 2 * kernel**2:  # the matrix is far larger than the kernel, and takes long to fill
            return super().forward(input)
        spread_OCPQ = torch.einsum("ock,pkq->ocpq", self.weight.flatten(2), joined_PKQ)
        matrix = spread_OCPQ.permute(3, 0, 2, 1).flatten(2).flatten(0, 1)
        bias = None if self.bias is None else self.bias.repeat(joined_PKQ.shape[2])
        # Pixels before channels, as channels_last has them.
        flat = F.linear(input.permute(0, 2, 3, 1).flatten(1), matrix, bias)
        output: Tensor = flat.unflatten(1, (*joined.shape[2:], self.out_channels)).permute(0, 3, 1, 2)
        # The weights say which layout the next layer expects.
        if self.weight.is_contiguous(memory_format=torch.channels_last):
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
