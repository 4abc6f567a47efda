"""A value whose gradient is known beside it, as a node of PyTorch's graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def with_gradient(value: Tensor, z: Tensor, gradient: Tensor | None) -> Tensor:
    """Join a scalar that was computed from ``z`` without a graph to the graph, by its gradient.

    Args:
        value: scalar.
        z: what it was computed from.
        gradient: of the value in ``z``, of the shape of ``z``; None where none is needed.

    Returns:
        The value; its backward pass gives ``gradient`` to ``z``.

    Raises:
        RuntimeError: in a backward pass through that gradient: there is no second derivative.
    """
    if gradient is None:
        return value
    joined: Tensor = _Value.apply(z, value, gradient)
    return joined


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, value: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        # Where a graph of the gradient is asked for, it must lead to an error instead of passing for a constant.
        anchor = torch.empty(0, requires_grad=torch.is_grad_enabled())
        return _Gradient.apply(grad_outputs[0], gradient, anchor), None, None


class _Gradient(torch.autograd.Function):
    """The gradient, which cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, grad_output: Tensor, gradient: Tensor, anchor: Tensor) -> Tensor:  # noqa: ARG004
        return grad_output * gradient

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004
        raise RuntimeError(
            "This value has no second derivative here: its gradient is computed in the forward pass and "
            "keeps no graph. HINT: call backward or autograd.grad without differentiating the result again."
        )
