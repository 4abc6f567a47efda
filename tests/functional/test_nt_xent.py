"""NT-Xent against its equation in loops, and against SimCLR's cross-entropy for two views."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gradients import assert_autocast_changes_nothing
from hypothesis import given, settings
from hypothesis import strategies as st

from rectified_lpjepa.functional.nt_xent import nt_xent


def draw(views=2, batch=6, dim=5, seed=0, dtype=torch.float64):
    return torch.randn(views, batch, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def in_numpy(z, temperature):
    """The equation in loops: each row an anchor, each other view of its sample a positive."""
    views, batch, _ = z.shape
    rows = [(v, b) for v in range(views) for b in range(batch)]
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    losses = []
    for v, b in rows:
        similarity = {row: unit[v, b] @ unit[row] / temperature for row in rows if row != (v, b)}
        log_total = math.log(sum(math.exp(s) for s in similarity.values()))
        losses += [log_total - similarity[u, b] for u in range(views) if u != v]
    return np.mean(losses)


@settings(max_examples=30)
@given(
    views=st.integers(2, 4),
    batch=st.integers(1, 6),
    dim=st.integers(1, 5),
    temperature=st.floats(0.1, 10),
    seed=st.integers(0, 2**31),
)
def test_equals_the_equation(views, batch, dim, temperature, seed):
    z = draw(views, batch, dim, seed)
    found = nt_xent(z, temperature=temperature).item()
    np.testing.assert_allclose(found, in_numpy(z.numpy(), temperature), rtol=1e-10, atol=1e-13)


def test_two_views_equal_simclrs_cross_entropy_in_value_and_gradient():
    z, reference = draw().requires_grad_(), draw().requires_grad_()
    rows = F.normalize(reference.flatten(0, 1), dim=1)
    logits = (rows @ rows.T / 0.2).fill_diagonal_(-torch.inf)
    expected = F.cross_entropy(logits, torch.arange(12).roll(6))
    found = nt_xent(z, temperature=0.2)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(z.grad, reference.grad)


@settings(max_examples=30)
@given(views=st.integers(2, 4), factor=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31))
def test_is_symmetric_in_views_and_blind_to_order_and_length(views, factor, seed):
    z = draw(views, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    order_of_views, samples, features = (torch.randperm(count, generator=generator) for count in z.shape)
    other = factor * z[order_of_views][:, samples][:, :, features]
    torch.testing.assert_close(nt_xent(other, temperature=0.2), nt_xent(z, temperature=0.2))


def test_is_least_for_equal_views_of_orthogonal_samples():
    z = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    assert nt_xent(z, temperature=0.2).item() == pytest.approx(math.log1p(6 * math.exp(-5)))
    assert nt_xent(z.roll(1, 1) + z, temperature=0.2) > nt_xent(z, temperature=0.2)
    assert nt_xent(torch.stack([z[0], z[1].roll(1, 0)]), temperature=0.2) > 5


@pytest.mark.parametrize("views", [2, 3])
def test_gradient_and_shares_of_anchors(views):
    z = draw(views).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: nt_xent(z, temperature=0.5, anchors=range(1, 4)), z)
    shares = [nt_xent(z, temperature=0.5, anchors=range(first, first + 2)) for first in (0, 2, 4)]
    torch.testing.assert_close(torch.stack(shares).mean(), nt_xent(z, temperature=0.5))


@pytest.mark.parametrize("zero_rows", [1, 6])
def test_rows_of_zeros_have_a_finite_value_and_gradient(zero_rows):
    z = draw(dtype=torch.float32).relu()
    z[:, :zero_rows] = 0
    z.requires_grad_()
    loss = nt_xent(z, temperature=0.2)
    loss.backward()
    assert loss.isfinite()
    assert z.grad.abs().max() < 100
    if zero_rows == 6:
        assert loss.item() == pytest.approx(math.log(11))


def test_autocast_changes_neither_value_nor_gradient():
    assert_autocast_changes_nothing(lambda z: nt_xent(z, temperature=0.2), draw(dtype=torch.float32))


def test_errors():
    with pytest.raises(ValueError, match=r"at least 2 views.* got shape \(1, 6, 5\)"):
        nt_xent(draw(1), temperature=0.2)
