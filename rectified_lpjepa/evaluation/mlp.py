"""The MLP probe: how well a small network, instead of a linear map, reads labels off frozen features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WIDEST = 8192
_LR, _WEIGHT_DECAY = 1e-3, 1e-4


def train_mlp(
    x: Tensor,
    labels: Tensor,
    num_classes: int,
    batches: list[Tensor],
    *,
    seed: int,
) -> nn.Sequential:
    """Train three linear layers with batch normalisation and ReLU between them.

    The hidden layers have min(1.5 F, 8192) units. AdamW, with a cosine schedule from 1e-3 to 0 and a weight decay of
    1e-4 on all parameters.

    Args:
        x: features, float32 (N, F).
        labels: int64 (N,), on the same device.
        num_classes: number of classes.
        batches: rows of each step, int64 (B,), of two samples or more.
        seed: of the first weights.

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
    optimizer = torch.optim.AdamW(mlp.parameters(), lr=_LR, weight_decay=_WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for rows in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(mlp(x[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        scheduler.step()
    return mlp.eval()
