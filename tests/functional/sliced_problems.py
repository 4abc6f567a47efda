"""Features, a target and directions, and the sliced Wasserstein distance as its equation says."""

import torch

from rectified_lpjepa.functional import (
    random_directions,
)


def plain_sliced_wasserstein(z, target, directions):
    """The equation, for autograd."""
    projected = (directions @ z.mT).sort(dim=-1).values
    return (projected - (directions @ target.mT).sort(dim=-1).values).square().mean()


def value_and_gradient(function, z, *arguments):
    leaf = z.clone().requires_grad_()
    value = function(leaf, *arguments)
    value.backward()
    return value.detach(), leaf.grad


def draw(views=2, batch=12, dim=5, num=9, *, per_view=False, seed=0, dtype=torch.float64):
    """Features, target and directions."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(views, batch, dim, generator=generator, dtype=dtype).relu()
    target = torch.randn(batch, dim, generator=generator, dtype=dtype).relu()
    directions = random_directions((views if per_view else 1) * num, dim, generator=generator, dtype=dtype)
    return z, target, directions.view(views, num, dim) if per_view else directions
