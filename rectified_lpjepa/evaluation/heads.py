"""Many linear classifiers trained at once, each with its own learning rate and weight decay.

Shape suffixes: B samples, F features, G classifiers, C classes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rectified_lpjepa.functional.precision import full_precision

_MOMENTUM = 0.9
_AT_ONCE = 4096  # samples whose logits are held together


class LinearHeads:
    """Linear classifiers under one cross-entropy each, trained by SGD on the same batches.

    Nesterov momentum of .9, a cosine schedule from the learning rate to 0, weight decay on the weights and not on the
    biases, and a start at zero. The optimum of a head's objective is that of
    ``sklearn.linear_model.LogisticRegression(C=1 / (weight_decay * samples))``.

    Args:
        in_dim: number F of features.
        num_classes: number C of classes.
        lrs: peak learning rate of each head, G of them.
        weight_decays: weight decay of each head, G of them.
        total_steps: length of the schedule.
        device: where to train.

    Attributes:
        weight_FGC: weights, float32 (F, G, C).
        bias_GC: biases, float32 (G, C).
    """

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        lrs: list[float],
        weight_decays: list[float],
        total_steps: int,
        device: torch.device,
    ) -> None:
        self.lrs_G1 = torch.tensor(lrs, device=device)[:, None]
        self.weight_decays_G1 = torch.tensor(weight_decays, device=device)[:, None]
        self.total_steps = total_steps
        self.weight_FGC = torch.zeros(in_dim, len(lrs), num_classes, device=device)
        self.bias_GC = torch.zeros(len(lrs), num_classes, device=device)
        self._velocities = [torch.zeros_like(self.weight_FGC), torch.zeros_like(self.bias_GC)]
        self._step = 0

    def logits(self, x_BF: Tensor) -> Tensor:
        """Compute the logits of all heads, float32 (B, G, C)."""
        with full_precision(x_BF.device):
            logits = torch.addmm(self.bias_GC.flatten(), x_BF, self.weight_FGC.flatten(1))
        logits_BGC: Tensor = logits.unflatten(1, self.bias_GC.shape)
        return logits_BGC

    def step(self, x_BF: Tensor, labels_B: Tensor) -> None:
        """Do one step of SGD.

        Args:
            x_BF: features, float32 (B, F).
            labels_B: int64 (B,).
        """
        batch = len(labels_B)
        # The gradient of the cross-entropy to the logits is softmax − one-hot, averaged over the batch.
        error_BGC = self.logits(x_BF).softmax(dim=-1)
        error_BGC[torch.arange(batch, device=x_BF.device), :, labels_B] -= 1
        with full_precision(x_BF.device):
            gradient_FGC = ((x_BF.T / batch) @ error_BGC.flatten(1)).unflatten(1, self.bias_GC.shape)
        gradient_FGC.addcmul_(self.weight_FGC, self.weight_decays_G1)
        rates_G1 = self.lrs_G1 * (0.5 * (1 + math.cos(math.pi * self._step / self.total_steps)))
        self._step += 1
        parameters, gradients = (self.weight_FGC, self.bias_GC), (gradient_FGC, error_BGC.sum(0) / batch)
        for value, gradient, velocity in zip(parameters, gradients, self._velocities, strict=True):
            torch.add(gradient, velocity, alpha=_MOMENTUM, out=velocity)
            value.addcmul_(gradient.add_(velocity, alpha=_MOMENTUM), rates_G1, value=-1)

    def measure(self, x_NF: Tensor, labels_N: Tensor) -> dict[str, Tensor]:
        """Measure all heads on samples.

        Args:
            x_NF: features, float32 (N, F).
            labels_N: int64 (N,).

        Returns:
            ``top1`` and ``top5``, shares of samples (top-C below five classes), and ``loss``, the mean cross-entropy in
            nats: float64 (G,) on the CPU. A head that has diverged has the accuracies 0 and the loss ∞.
        """
        heads, classes = self.bias_GC.shape
        sums = {name: torch.zeros(heads, dtype=torch.float64, device=x_NF.device) for name in ("top1", "top5", "loss")}
        for x_BF, labels_B in zip(x_NF.split(_AT_ONCE), labels_N.split(_AT_ONCE), strict=True):
            logits_BGC = self.logits(x_BF)
            best_BGk = logits_BGC.topk(min(5, classes), dim=-1).indices
            hits_BGk = best_BGk == labels_B[:, None, None]
            sums["top1"] += hits_BGk[..., 0].sum(0)
            sums["top5"] += hits_BGk.any(-1).sum(0)
            losses_BG = F.cross_entropy(
                logits_BGC.flatten(0, 1), labels_B.repeat_interleave(heads), reduction="none"
            ).unflatten(0, (len(labels_B), heads))
            sums["loss"] += losses_BG.sum(0, dtype=torch.float64)
        has_diverged = ~sums["loss"].isfinite()
        means = {name: value / len(labels_N) for name, value in sums.items()}
        return {
            name: value.masked_fill(has_diverged, math.inf if name == "loss" else 0.0).cpu()
            for name, value in means.items()
        }
