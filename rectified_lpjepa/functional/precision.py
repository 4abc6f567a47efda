"""Arithmetic that keeps at least float32 whatever autocast or TensorFloat-32 setting surrounds it.

A half-precision projection of features ties many of them before they are sorted; so from the gathered features to the
loss everything is computed in float32, or in float64 for float64 inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Switch off autocast and reduced-precision float32 matrix products, and restore both afterwards.

    Reduced precision is TensorFloat-32 on CUDA and bfloat16 products in oneDNN on the CPU. The setting belongs to the
    process, not to the thread. A backward pass outside the context runs under the setting it finds there:
    differentiable products go through :func:`matmul`.

    Args:
        device: device of the tensors inside, whose autocast is switched off.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    settings = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, setting in zip(backends, settings, strict=True):
            backend.fp32_precision = setting


def at_least_float32(*tensors: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float32, or float64 if any of the tensors has it."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


class _Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        with full_precision(left.device):
            return left @ right

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[no-untyped-def]
        left, right = ctx.saved_tensors
        needs_left, needs_right = ctx.needs_input_grad
        return (
            matmul(grad, right.mT).sum_to_size(left.shape) if needs_left else None,
            matmul(left.mT, grad).sum_to_size(right.shape) if needs_right else None,
        )


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """Multiply matrices with :func:`full_precision` in the forward and in every backward pass.

    Args:
        left: (..., N, D), float32 or float64.
        right: (..., D, B) of the same dtype; leading axes broadcast.

    Returns:
        (..., N, B).
    """
    product: Tensor = _Matmul.apply(left, right)
    return product
