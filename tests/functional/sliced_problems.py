"""Features and directions, and the sliced Wasserstein distance to a target as its equation says."""

import torch
from hypothesis import strategies as st

from rectified_lpjepa.functional import random_directions


def plain_sliced_wasserstein(z, target, directions):
    """The equation, for autograd."""
    projected = (directions @ z.mT).sort(dim=-1).values
    return (projected - (directions @ target.mT).sort(dim=-1).values).square().mean()


def draw(views=2, batch=12, dim=5, num=9, *, per_view=False, seed=0, dtype=torch.float64):
    """Features, target and directions."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(views, batch, dim, generator=generator, dtype=dtype).relu()
    target = torch.randn(batch, dim, generator=generator, dtype=dtype).relu()
    return z, target, _directions(z, num, per_view, generator)


def draw_without_target(views=2, batch=12, dim=5, num=9, *, per_view=False, seed=0, dtype=torch.float64):
    """Features that are not standardised, and directions."""
    generator = torch.Generator().manual_seed(seed)
    z = 1.5 * torch.randn(views, batch, dim, generator=generator, dtype=dtype) + 0.3
    return z, _directions(z, num, per_view, generator)


problems_without_target = st.builds(
    draw_without_target,
    views=st.integers(1, 3),
    batch=st.integers(1, 9),
    dim=st.integers(1, 6),
    num=st.integers(1, 12),
    per_view=st.booleans(),
    seed=st.integers(0, 2**31),
)


def _directions(z, num, per_view, generator):
    views, _, dim = z.shape
    directions = random_directions((views if per_view else 1) * num, dim, generator=generator, dtype=z.dtype)
    return directions.view(views, num, dim) if per_view else directions
