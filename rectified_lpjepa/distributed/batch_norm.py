"""Batch normalisation with the statistics of all processes, on any device.

Shape suffixes: W processes, C channels. A batch is (B, C, …), and a channel has B times the other axes many values.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning.pytorch.plugins import LayerSync
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from rectified_lpjepa.distributed.gather import current_shard
from rectified_lpjepa.functional.precision import at_least_float32


def _global_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute mean (C,), biased variance (C,) and number of values () of each channel over all processes.

    Each process's own statistics are merged by Chan, Golub and LeVeque's formula, which does not cancel as a difference
    of mean squares and squared mean would: one all-gather of 2C + 1 numbers.
    """
    mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
    own = torch.cat([mean, variance, mean.new_full((1,), x.numel() // x.shape[1])])  # without waiting for the device
    every = own.new_empty(current_shard().world_size * len(own))
    dist.all_gather_into_tensor(every, own)
    means_WC, variances_WC, counts_W1 = every.view(-1, len(own)).split([len(mean), len(mean), 1], dim=1)
    count = counts_W1.sum()
    weights_W1 = counts_W1 / count
    mean = (weights_W1 * means_WC).sum(0)
    return mean, (weights_W1 * (variances_WC + (means_WC - mean).square())).sum(0), count


class _Normalise(torch.autograd.Function):
    """Normalise by statistics of which every process's batch is a part: one all-reduce of 2C numbers backward."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        statistics: tuple[Tensor, Tensor, Tensor],
        eps: float,
    ) -> Tensor:
        mean, variance, count = statistics
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        x, weight, mean, variance, count = ctx.saved_tensors
        dtype, x, grad = x.dtype, x.to(mean.dtype), grad.to(mean.dtype)
        inverse_std = (variance + ctx.eps).rsqrt()
        # With given statistics the gradients of weight and bias are the sums Σ grad · x̂ and Σ grad.
        _, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, None, mean, variance, mean, inverse_std, False, ctx.eps, [False, True, True]
        )
        grad_x = None
        if ctx.needs_input_grad[0]:
            means = torch.cat([grad_weight, grad_bias]) / count
            dist.all_reduce(means)
            scale = inverse_std if weight is None else inverse_std * weight
            # scale · (grad − mean(grad) − x̂ · mean(grad · x̂)), the statistics' own dependence on x included
            by_x, constant = (-scale * means.view(2, -1)).unbind()
            grad_x = F.batch_norm(x, mean, variance, by_x, constant, training=False, eps=ctx.eps)
            grad_x = grad_x.addcmul_(grad, scale.view(-1, *[1] * (x.ndim - 2))).to(dtype)
        # Those of weight and bias are this process's own: like every parameter's they are averaged later.
        of_weight = grad_weight if ctx.needs_input_grad[1] else None
        return grad_x, of_weight, grad_bias if ctx.needs_input_grad[2] else None, None, None


def synchronised_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    momentum: float,
    eps: float,
) -> Tensor:
    """Compute what ``torch.nn.functional.batch_norm(…, training=True)`` computes for the batches of all processes.

    One collective forward and one backward, which every process takes part in; batches may differ in size. Statistics
    are float32 for half-precision batches. The gradient is that of the sum of the processes' losses.

    Args:
        x: this process's batch (B, C, …), floating point, at least one value per channel.
        running_mean: (C,), moved towards the mean in place; or None.
        running_var: (C,), moved towards the unbiased variance in place; or None.
        weight: (C,) or None.
        bias: (C,) or None.
        momentum: how far the running statistics move, from 0 to 1.
        eps: what is added to the variance.

    Returns:
        The normalised batch, of x's shape, dtype and memory format.
    """
    with torch.no_grad():
        mean, variance, count = _global_statistics(x.to(at_least_float32(x)))
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    normalised: Tensor = _Normalise.apply(x, weight, bias, (mean, variance, count), eps)
    return normalised


class _Synchronised(_BatchNorm):
    """A batch norm that in training, with several processes, normalises by the statistics of all of them."""

    @override
    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the compiler cannot look into processes talking to each other
    def forward(self, input: Tensor) -> Tensor:
        if not self.training or current_shard().world_size == 1:
            return super().forward(input)
        self._check_input_dim(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # a cumulative average
                momentum = 1.0 / float(self.num_batches_tracked)
        normalised = synchronised_batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, momentum=momentum, eps=self.eps
        )
        return self._finish(normalised)

    def _finish(self, normalised: Tensor) -> Tensor:
        return normalised


class SyncBatchNorm1d(_Synchronised, nn.BatchNorm1d):
    """:class:`torch.nn.BatchNorm1d` over all processes."""


class SyncBatchNorm2d(_Synchronised, nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d` over all processes."""


class SyncBatchNorm3d(_Synchronised, nn.BatchNorm3d):
    """:class:`torch.nn.BatchNorm3d` over all processes."""


class SyncBatchNormAct2d(_Synchronised, BatchNormAct2d):
    """timm's ``BatchNormAct2d`` over all processes, with its dropping and its activation."""

    @override
    def _finish(self, normalised: Tensor) -> Tensor:
        activated: Tensor = self.act(self.drop(normalised))
        return activated


_SYNCHRONISED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncBatchNorm1d,
    nn.BatchNorm2d: SyncBatchNorm2d,
    nn.BatchNorm3d: SyncBatchNorm3d,
    BatchNormAct2d: SyncBatchNormAct2d,
}


class BatchNormSync(LayerSync):
    """Plugin of Lightning's Trainer: batch normalisation with the statistics of the global batch.

    ``Trainer(plugins=[BatchNormSync()])`` works with every strategy of the DDP family, on every device. The layers stay
    the objects that they are, with their parameters, statistics, hooks and keys in a state dict; only their class is
    another one while training runs. Unlike torch's SyncBatchNorm, which is for CUDA alone, they do not make the host
    wait for the device in each layer. One process alone uses torch's batch norm.
    """

    @override
    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronise the batch norms of a model in place.

        Args:
            model: any module.

        Returns:
            The same module.

        Raises:
            TypeError: the model has a batch norm with a way of its own to normalise, which is not known here.
        """
        for name, module in model.named_modules():
            if type(module) in _SYNCHRONISED:
                module.__class__ = _SYNCHRONISED[type(module)]
            elif isinstance(module, _BatchNorm) and not isinstance(module, _Synchronised | nn.SyncBatchNorm):
                known = ", ".join(sorted(cls.__name__ for cls in _SYNCHRONISED))
                raise TypeError(
                    f"The layer {name} is a {type(module).__name__}, which cannot be synchronised over processes; "
                    f"{known} can. HINT: set `--trainer.sync_batchnorm false`, or use one of these layers."
                )
        return model

    @override
    def revert(self, model: nn.Module) -> nn.Module:
        """Give the layers of a model their own classes back, in place.

        Args:
            model: what :meth:`apply` was given.

        Returns:
            The same module.
        """
        originals = {synchronised: original for original, synchronised in _SYNCHRONISED.items()}
        for module in model.modules():
            if type(module) in originals:
                module.__class__ = originals[type(module)]
        return model
