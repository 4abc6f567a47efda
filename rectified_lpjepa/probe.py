"""The linear probe: how well a linear classifier reads labels off frozen features.

Shape suffixes: V views, B samples, F features, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from typing_extensions import override


class LinearProbe(LightningModule):
    """A linear classifier on features that it does not change.

    *Online*, beside a model in training, it is a part of that model: the parent adds the probe's loss to its own, gives
    its parameters an optimiser group, and logs ``train_accuracy`` and ``validation_accuracy``. *Offline*, with a
    trainer of its own, it learns from batches ``(features, labels)`` by SGD with a cosine schedule and logs
    ``train/loss``, ``train/top1``, ``train/top5`` and the same of ``val/``.

    Args:
        in_dim: width F of the features.
        num_classes: number C of classes; labels are 0 to C − 1, every sample has one.
        lr: peak learning rate, offline only.
        momentum: momentum of SGD, offline only.
        weight_decay: weight decay, offline only.

    Attributes:
        train_accuracy: ``top1`` and ``top5`` over all samples of an epoch (top-C where there are fewer than 5 classes);
            accumulated on the device.
        validation_accuracy: the same for validation.

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
        self.train_accuracy = _accuracies(num_classes)
        self.validation_accuracy = _accuracies(num_classes)

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

    @override
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(*batch, split="train", accuracy=self.train_accuracy)

    @override
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(*batch, split="val", accuracy=self.validation_accuracy)

    def _step(self, features_BF: Tensor, labels_B: Tensor, *, split: str, accuracy: MetricCollection) -> Tensor:
        logits_BC = self(features_BF)
        loss = self.loss(logits_BC, labels_B)
        accuracy.update(logits_BC.detach(), labels_B)
        self.log_dict(
            {f"{split}/loss": loss.detach(), **{f"{split}/{name}": metric for name, metric in accuracy.items()}},
            on_step=False,
            on_epoch=True,
            batch_size=len(labels_B),
            sync_dist=True,
        )
        return loss

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(
            self.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _accuracies(num_classes: int) -> MetricCollection:
    # Arguments are not validated because that looks at values, which makes the host wait for the device. Nor does the
    # collection look for metrics with equal counts: these two have none in common.
    return MetricCollection(
        {
            name: MulticlassAccuracy(num_classes, top_k=min(k, num_classes), average="micro", validate_args=False)
            for name, k in (("top1", 1), ("top5", 5))
        },
        compute_groups=False,
    )
