"""Linear probes: how well a linear classifier reads labels off frozen features.

Shape suffixes: V views, B samples, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from typing_extensions import override

from rectified_lpjepa.metrics import RunningMeans

_TOP = (1, 5)


class LinearProbe(LightningModule):
    """A linear classifier on features that it does not change.

    *Online*, beside a model in training, it is a part of that model: the parent adds the probe's loss to its own, gives
    its parameters an optimiser group, and logs its loss and :meth:`accuracies`. *Offline*, with a trainer of its own,
    it learns from batches ``(features, labels)`` by SGD with a cosine schedule and logs ``train/loss``, ``train/top1``,
    ``train/top5`` and the same of ``val/``.

    Args:
        in_dim: width F of the features.
        num_classes: number C of classes; labels are 0 to C − 1, every sample has one.
        lr: peak learning rate, offline only.
        momentum: momentum of SGD, offline only.
        weight_decay: weight decay, offline only.

    Attributes:
        train_means: what is measured over an epoch of training, by whoever trains the probe; accumulated on the device.
        val_means: the same for validation.

    Raises:
        ValueError: no features, or fewer than two classes.
    """

    def __init__(
        self, in_dim: int, num_classes: int, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__()
        if in_dim < 1:
            raise ValueError(f"LinearProbe(in_dim={in_dim}) must be at least 1.")
        if num_classes < 2:
            raise ValueError(f"LinearProbe(num_classes={num_classes}) must be at least 2: one class tells nothing.")
        # Said one by one: a probe built within a parent must not take the parent's arguments for its own.
        self.save_hyperparameters(
            {
                "in_dim": in_dim,
                "num_classes": num_classes,
                "lr": lr,
                "momentum": momentum,
                "weight_decay": weight_decay,
            },
            logger=False,
        )
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.classifier = nn.Linear(in_dim, num_classes)
        self.train_means = RunningMeans()
        self.val_means = RunningMeans()

    @override
    def forward(self, features: Tensor) -> Tensor:
        """Compute logits (..., C) of features (..., F), floating point; no gradient reaches the features."""
        logits: Tensor = self.classifier(features.detach())
        return logits

    @staticmethod
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the cross-entropy in nats, averaged over samples and views.

        Args:
            logits: (B, C), or (V, B, C) for several views.
            labels: int64 (B,), shared by the views.

        Returns:
            Scalar.
        """
        return F.cross_entropy(logits.flatten(0, -2), labels.expand(logits.shape[:-1]).flatten())

    @staticmethod
    def accuracies(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compute the shares of samples whose class is the first, and is among the first five (top-C below 5 classes).

        The host does not wait for the device.

        Args:
            logits: (B, C), or (V, B, C) for several views.
            labels: int64 (B,), shared by the views.

        Returns:
            ``top1`` and ``top5``, float64 scalars, over samples and views.
        """
        best = logits.detach().topk(min(max(_TOP), logits.shape[-1])).indices
        hits = best == labels[:, None]
        return {f"top{k}": hits[..., :k].any(dim=-1).mean(dtype=torch.float64) for k in _TOP}

    @override
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(*batch, split="train", means=self.train_means)

    @override
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(*batch, split="val", means=self.val_means)

    def _step(self, features_BF: Tensor, labels_B: Tensor, *, split: str, means: RunningMeans) -> Tensor:
        logits_BC = self(features_BF)
        loss = self.loss(logits_BC, labels_B)
        means.update({"loss": loss, **self.accuracies(logits_BC, labels_B)}, weight=len(labels_B))
        means.log_once(self, split)
        return loss

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(
            self.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class OnlineProbes(nn.ModuleDict):
    """The probes that learn beside a model in training, one on each kind of its features.

    Args:
        in_dims: width of each kind of features by name; empty where there are no labels.
        num_classes: number C of classes.
    """

    def __init__(self, in_dims: Mapping[str, int], num_classes: int) -> None:
        super().__init__({name: LinearProbe(in_dim, num_classes) for name, in_dim in in_dims.items()})

    def measure(self, features: Mapping[str, Tensor], labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Compute what the probes are trained by, and how well they do.

        Args:
            features: (B, F), or (V, B, F) for several views, by the names of the probes and perhaps others.
            labels: int64 (B,), shared by the views.

        Returns:
            The losses, ``probe_<name>``, scalars in nats; and the accuracies, ``probe_<name>/top1`` and ``…/top5``.
        """
        losses: dict[str, Tensor] = {}
        accuracies: dict[str, Tensor] = {}
        for name, probe in self.items():
            assert isinstance(probe, LinearProbe)
            logits = probe(features[name])
            losses[f"probe_{name}"] = probe.loss(logits, labels)
            measured = probe.accuracies(logits, labels)
            accuracies |= {f"probe_{name}/{key}": value for key, value in measured.items()}
        return losses, accuracies
