"""The MLP probe: how well a small network, instead of a linear map, reads labels off frozen features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WIDEST = 8192


def train_mlp(
    x: Tensor,
    labels: Tensor,
    num_classes: int,
    batches: list[Tensor],
    *,
    seed: int,
    lr: float = 1e-3,
    weight_decay: float = 1e-4,
) -> nn.Sequential:
    """Train three linear layers with batch normalisation and ReLU between them.

    The hidden layers have min(1.5 F, 8192) units. AdamW, with a cosine schedule to 0.

    Args:
        x: features, float32 (N, F).
        labels: int64 (N,), on the same device.
        num_classes: number of classes.
        batches: rows of each step, int64 (B,), of two samples or more.
        seed: of the first weights.
        lr: peak learning rate.
        weight_decay: of all parameters.

    Returns:
        The network, in evaluation mode: from (B, F) to logits (B, C).
    """
    features = x.shape[1]
    hidden = min(features * 3 // 2, _WIDEST)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mlp = nn.Sequential(
            *(nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
            nn.Linear(hidden, num_classes),
        ).to(x.device)
    optimizer = torch.optim.AdamW(mlp.parameters(), lr=lr, weight_decay=weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for rows in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(mlp(x[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        scheduler.step()
    return mlp.eval()
