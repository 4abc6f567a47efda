import numpy as np
import ot
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rectified_lpjepa.functional import random_directions, sliced_wasserstein


def draw(views=2, batch=12, dim=5, num=9, *, per_view=False, seed=0, dtype=torch.float64):
    """Features, target and directions."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(views, batch, dim, generator=generator, dtype=dtype).relu()
    target = torch.randn(batch, dim, generator=generator, dtype=dtype).relu()
    directions = random_directions((views if per_view else 1) * num, dim, generator=generator, dtype=dtype)
    return z, target, directions.view(views, num, dim) if per_view else directions


problems = st.builds(
    draw,
    views=st.integers(1, 3),
    batch=st.integers(1, 16),
    dim=st.integers(1, 8),
    num=st.integers(1, 12),
    per_view=st.booleans(),
    seed=st.integers(0, 2**31),
)


@pytest.mark.parametrize("per_view", [False, True])
def test_equals_python_optimal_transport(per_view):
    z, target, directions = draw(views=3, batch=40, dim=7, num=25, per_view=per_view)
    expected = np.mean(
        [
            # POT returns the root of the mean over projections, given as columns.
            ot.sliced_wasserstein_distance(view, target.numpy(), projections=columns.T) ** 2
            for view, columns in zip(z.numpy(), directions.expand(3, 25, 7).numpy(), strict=True)
        ]
    )
    np.testing.assert_allclose(sliced_wasserstein(z, target, directions).item(), expected, rtol=1e-12)


def test_approaches_the_closed_form_between_normal_laws():
    # Between N(m, s² I) and N(0, I) each projection has W₂² = (m·c)² + (s − 1)², whose mean over the sphere is below.
    dim, batch, scale = 4, 20_000, 1.5
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([1.0, 0.0, -2.0, 0.5])
    z = mean + scale * torch.randn(1, batch, dim, generator=generator)
    target = torch.randn(batch, dim, generator=generator)
    directions = random_directions(256, dim, generator=generator)
    # The directions drawn put (m·c)² where they put it; the samples' own noise is what remains.
    expected = (directions @ mean).square().mean().item() + (scale - 1) ** 2
    assert sliced_wasserstein(z, target, directions).item() == pytest.approx(expected, rel=0.02)


def test_one_dimension_equals_the_cheapest_matching_of_samples():
    z, target, _ = draw(views=1, batch=30, dim=1, num=1)
    costs = (z[0].numpy() - target.numpy().T) ** 2
    expected = costs[scipy.optimize.linear_sum_assignment(costs)].mean()
    distance = sliced_wasserstein(z, target, torch.ones(1, 1, dtype=torch.float64))
    np.testing.assert_allclose(distance.item(), expected, rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(problem=problems, seed=st.integers(0, 2**31))
def test_is_non_negative_and_blind_to_the_order_of_samples(problem, seed):
    z, target, directions = problem
    distance = sliced_wasserstein(z, target, directions)
    assert distance >= 0
    generator = torch.Generator().manual_seed(seed)
    order, target_order = (torch.randperm(len(target), generator=generator) for _ in range(2))
    torch.testing.assert_close(sliced_wasserstein(z[:, order], target[target_order], directions), distance)


@settings(deadline=None, max_examples=30)
@given(problem=problems)
def test_is_zero_for_equal_samples(problem):
    z, _, directions = problem
    assert sliced_wasserstein(z[:1], z[0].flip(0), directions[:1] if directions.ndim == 3 else directions) <= 1e-28


@settings(deadline=None, max_examples=30)
@given(problem=problems, factor=st.floats(0.01, 100))
def test_grows_with_the_square_of_the_scale(problem, factor):
    z, target, directions = problem
    scaled = sliced_wasserstein(factor * z, factor * target, directions)
    torch.testing.assert_close(scaled, factor**2 * sliced_wasserstein(z, target, directions))


def test_each_views_own_directions_equal_a_call_per_view():
    z, target, directions = draw(views=3, per_view=True)
    calls = [sliced_wasserstein(view[None], target, own) for view, own in zip(z, directions, strict=True)]
    torch.testing.assert_close(sliced_wasserstein(z, target, directions), torch.stack(calls).mean())
    torch.testing.assert_close(
        sliced_wasserstein(z, target, directions[0]), sliced_wasserstein(z, target, directions[:1].expand(3, -1, -1))
    )


def test_shares_add_up_to_the_whole_and_may_be_empty():
    z, target, directions = draw(num=10)
    shares = [sliced_wasserstein(z, target, part, num_directions=10) for part in directions.split([3, 0, 7])]
    torch.testing.assert_close(sum(shares), sliced_wasserstein(z, target, directions))
    z.requires_grad_()
    sliced_wasserstein(z, target, directions[:0], num_directions=10).backward()
    assert torch.equal(z.grad, torch.zeros_like(z))


@pytest.mark.parametrize("per_view", [False, True])
def test_first_and_second_derivatives(per_view):
    z, target, directions = draw(views=2, batch=5, dim=3, num=4, per_view=per_view)
    generator = torch.Generator().manual_seed(1)
    # Away from the ties that rectified features have, where the distance is not differentiable.
    inputs = [x + torch.rand(x.shape, generator=generator, dtype=x.dtype) for x in (z, target, directions)]
    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(sliced_wasserstein, inputs)
    assert torch.autograd.gradgradcheck(sliced_wasserstein, inputs)


def test_gradient_equals_the_closed_form():
    z, target, directions = draw(views=2, batch=11, dim=4, num=6)
    z.requires_grad_()
    sliced_wasserstein(z, target, directions).backward()
    expected = np.zeros(z.shape)
    for v, view in enumerate(z.detach().numpy()):
        for c in directions.numpy():
            order = np.argsort(view @ c, kind="stable")
            difference = (view @ c)[order] - np.sort(target.numpy() @ c)
            expected[v, order] += 2 / (2 * 11 * 6) * difference[:, None] * c
    np.testing.assert_allclose(z.grad.numpy(), expected, atol=1e-15)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gradient_survives_full_collapse(value):
    _, target, directions = draw(views=2, batch=32)
    z = torch.full((2, 32, 5), value, dtype=torch.float64, requires_grad=True)
    sliced_wasserstein(z, target, directions).backward()
    assert z.grad.norm() > 1e-3
    # It spreads the samples instead of moving them together.
    assert z.grad.std(dim=1).min() > 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_neither_loss_nor_gradient(dtype):
    z, target, directions = draw(batch=64, dtype=torch.float32)
    results = []
    for enabled in (False, True):
        leaf = z.clone().requires_grad_()
        with torch.autocast("cpu", dtype, enabled=enabled):
            distance = sliced_wasserstein(leaf, target, directions)
            distance.backward()
        results.append((distance, leaf.grad))
    assert results[0][0].dtype == results[1][0].dtype == torch.float32
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_half_precision_is_computed_in_float32_and_float64_stays():
    z, target, directions = draw(dtype=torch.float32)
    half = sliced_wasserstein(z.bfloat16(), target, directions)
    assert half.dtype == torch.float32
    assert torch.equal(half, sliced_wasserstein(z.bfloat16().float(), target, directions))
    assert sliced_wasserstein(z.double(), target, directions).dtype == torch.float64


@pytest.mark.parametrize(
    ("z", "target", "directions", "message"),
    [
        ((4, 3), (4, 3), (2, 3), r"Expected features \(V, B, D\).*got \(4, 3\)"),
        ((2, 4, 3), (2, 4, 3), (2, 3), r"target \(B, D\)"),
        ((2, 0, 3), (0, 3), (2, 3), "at least 1 sample"),
        ((2, 4, 3), (5, 3), (2, 3), "it holds 5 and the batch 4"),
        ((2, 4, 3), (4, 2), (2, 3), "same dimension, got 3, 2 and 3"),
        ((2, 4, 3), (4, 3), (2, 5), "same dimension, got 3, 3 and 5"),
        ((2, 4, 3), (4, 3), (3, 7, 3), "each of the 2 views, but there are 3"),
        ((2, 4, 3), (4, 3), (0, 3), "at least 1 direction"),
    ],
)
def test_errors(z, target, directions, message):
    with pytest.raises(ValueError, match=message):
        sliced_wasserstein(torch.ones(z), torch.ones(target), torch.ones(directions))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_float64_even_where_tensorfloat32_is_allowed():
    z, target, directions = draw(batch=128, dim=256, num=512)
    z.requires_grad_()
    expected = sliced_wasserstein(z, target, directions)
    expected.backward()
    leaf = z.detach().float().cuda().requires_grad_()
    torch.set_float32_matmul_precision("high")
    try:
        distance = sliced_wasserstein(leaf, target.float().cuda(), directions.float().cuda())
        distance.backward()
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(distance.double().cpu(), expected.detach(), rtol=1e-5, atol=0)
    assert (leaf.grad.double().cpu() - z.grad).norm() < 1e-4 * z.grad.norm()
