"""Gathering of features over processes, with gradient.

Shape suffixes: V views, B samples of one process, W processes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from rectified_lpjepa.functional.precision import at_least_float32
from rectified_lpjepa.functional.sharding import Shard


def current_shard() -> Shard:
    """Return which process this is; one of one where there is no process group."""
    if dist.is_available() and dist.is_initialized():
        return Shard(dist.get_rank(), dist.get_world_size())
    return Shard()


class _AllGatherViews(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, z_VBD: Tensor) -> Tensor:
        ctx.local_shape = z_VBD.shape  # type: ignore[attr-defined]
        gathered_WVBD = z_VBD.new_empty(dist.get_world_size(), *z_VBD.shape)
        dist.all_gather_into_tensor(gathered_WVBD.flatten(0, 1), z_VBD.contiguous())
        return gathered_WVBD.transpose(0, 1).flatten(1, 2)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        views, batch, dim = ctx.local_shape
        grad_WVBD = grad.view(views, -1, batch, dim).transpose(0, 1).contiguous()
        local_VBD = grad.new_empty(ctx.local_shape)
        dist.reduce_scatter_tensor(local_VBD, grad_WVBD.flatten(0, 1), op=dist.ReduceOp.SUM)
        return local_VBD


def all_gather_views(z_VBD: Tensor) -> Tensor:
    """Gather the features of all processes: one collective forward, one backward.

    The backward pass sums the gradients of all processes' losses with respect to this process's features. Parameters
    whose gradients are then averaged over the processes, as DistributedDataParallel does, so get those of the mean of
    the processes' losses.

    Args:
        z_VBD: features (V, B, D) of this process, floating point, of the same shape everywhere: see
            :func:`check_equal_shapes`.

    Returns:
        (V, W·B, D) in the order of the ranks, at least float32; the features themselves for one process.
    """
    if current_shard().world_size == 1:
        return z_VBD
    gathered: Tensor = _AllGatherViews.apply(z_VBD.to(at_least_float32(z_VBD)))
    return gathered


def check_equal_shapes(z_VBD: Tensor) -> None:
    """Compare the shapes of all processes' features, in one small collective that every process must take part in.

    Args:
        z_VBD: features (V, B, D) of this process.

    Raises:
        ValueError: on every process, if the shapes differ.
    """
    shard = current_shard()
    if shard.world_size == 1:
        return
    shape = torch.tensor(z_VBD.shape, device=z_VBD.device)
    shapes = shape.new_empty(shard.world_size * len(shape))
    dist.all_gather_into_tensor(shapes, shape)
    by_rank = [tuple(row) for row in shapes.view(shard.world_size, -1).tolist()]
    if len(set(by_rank)) > 1:
        listed = ", ".join(f"{row} on rank {rank}" for rank, row in enumerate(by_rank))
        raise ValueError(
            f"All processes need features of one shape (views, batch, dim), but they have {listed}. HINT: give every "
            "process the same number of samples, with a sampler that drops the last incomplete global batch."
        )


def mean_over_processes(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Average scalars over the processes, in one collective that every process must take part in.

    Args:
        values: detached floating-point scalars by name, the same names on all processes.

    Returns:
        Their means by name, of the dtypes that they had; the values themselves for one process.
    """
    world_size = current_shard().world_size
    if world_size == 1:
        return dict(values)
    means = torch.stack([value.double() for value in values.values()]) / world_size
    dist.all_reduce(means)
    return {name: mean.to(value.dtype) for (name, value), mean in zip(values.items(), means.unbind(), strict=True)}
