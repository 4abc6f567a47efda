"""The sliced Wasserstein distance against optimal transport, closed forms, and its equation."""

import numpy as np
import ot
import pytest
import scipy.optimize
import torch
from gradients import assert_autocast_changes_nothing, value_and_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from sliced_problems import draw, plain_sliced_wasserstein

from rectified_lpjepa.functional import (
    eigen_directions,
    keyed_generator,
    orthogonal_directions,
    random_directions,
    sliced_wasserstein,
)

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


@settings(max_examples=60)
@given(problem=problems, seed=st.integers(0, 2**31))
def test_is_non_negative_and_blind_to_the_order_of_samples(problem, seed):
    z, target, directions = problem
    distance = sliced_wasserstein(z, target, directions)
    assert distance >= 0
    generator = torch.Generator().manual_seed(seed)
    order, target_order = (torch.randperm(len(target), generator=generator) for _ in range(2))
    torch.testing.assert_close(sliced_wasserstein(z[:, order], target[target_order], directions), distance)


@settings(max_examples=60)
@given(problem=problems)
def test_equals_the_plain_version(problem):
    torch.testing.assert_close(sliced_wasserstein(*problem), plain_sliced_wasserstein(*problem), rtol=1e-12, atol=0)


@settings(max_examples=30)
@given(problem=problems)
def test_is_zero_for_equal_samples(problem):
    z, _, directions = problem
    assert sliced_wasserstein(z[:1], z[0].flip(0), directions[:1] if directions.ndim == 3 else directions) <= 1e-28


@settings(max_examples=30)
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
def test_gradient_is_the_derivative(per_view):
    z, target, directions = draw(views=2, batch=5, dim=3, num=4, per_view=per_view)
    generator = torch.Generator().manual_seed(1)
    # Away from the ties that rectified features have, where the distance is not differentiable.
    z = (z + torch.rand(z.shape, generator=generator, dtype=z.dtype)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: sliced_wasserstein(z, target, directions), z)


def test_a_second_derivative_is_refused_and_a_factor_is_not():
    z, target, directions = draw()
    z.requires_grad_()
    (once,) = torch.autograd.grad(sliced_wasserstein(z, target, directions), z)
    distance = sliced_wasserstein(z, target, directions)
    (gradient,) = torch.autograd.grad(3 * distance, z, create_graph=True)
    torch.testing.assert_close(gradient, 3 * once)
    with pytest.raises(RuntimeError, match=r"no second derivative.*HINT"):
        gradient.square().sum().backward()


def test_there_is_no_graph_without_a_gradient():
    z, target, directions = draw()
    assert not sliced_wasserstein(z, target, directions).requires_grad
    with torch.no_grad():
        assert not sliced_wasserstein(z.requires_grad_(), target, directions).requires_grad
    with torch.inference_mode():
        sliced_wasserstein(z.detach(), target, directions)


KINDS = {
    "random": lambda z: random_directions(700, z.shape[-1], generator=keyed_generator(0, "d"), dtype=z.dtype),
    "orthogonal": lambda z: orthogonal_directions(700, z.shape[-1], generator=keyed_generator(0, "d"), dtype=z.dtype),
    "eigen": eigen_directions,
    "one": lambda z: random_directions(1, z.shape[-1], generator=keyed_generator(0, "d"), dtype=z.dtype),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("views", "batch", "dim"), [(2, 96, 40), (3, 7, 33), (1, 2, 2), (2, 300, 3)])
def test_float64_equals_the_plain_version(kind, views, batch, dim, threads):
    # Normal features have no ties, which autograd's sort may break otherwise than ours.
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(views, batch, dim, generator=generator, dtype=torch.float64)
    target = torch.randn(batch, dim, generator=generator, dtype=torch.float64).relu()
    directions = KINDS[kind](z)
    value, gradient = value_and_gradient(sliced_wasserstein, z, target, directions)
    expected, expected_gradient = value_and_gradient(plain_sliced_wasserstein, z, target, directions)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    assert (gradient - expected_gradient).norm() <= 1e-10 * expected_gradient.norm()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize(("views", "batch", "dim"), [(2, 96, 40), (3, 7, 33), (2, 1024, 8)])
def test_float32_is_as_near_to_float64_as_the_plain_version(kind, views, batch, dim, rectified, threads):
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(views, batch, dim, generator=generator)
    if rectified and dim > 8:  # rows of zeros would be tied, and sorted in any order
        z = z.relu()
    target = torch.randn(batch, dim, generator=generator).relu()
    directions = KINDS[kind](z)
    value, gradient = value_and_gradient(sliced_wasserstein, z, target, directions)
    _, plain_gradient = value_and_gradient(plain_sliced_wasserstein, z, target, directions)
    exact, exact_gradient = value_and_gradient(
        plain_sliced_wasserstein, z.double(), target.double(), directions.double()
    )
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=0)
    error, plain_error = ((g - exact_gradient).norm() / exact_gradient.norm() for g in (gradient, plain_gradient))
    assert error <= max(1.5 * plain_error, 1e-7)


def test_tied_samples_share_out_the_same_gradient():
    # Rows of zeros, as a sparse target asks for, are tied in every direction.
    z, target, directions = draw(views=2, batch=64, dim=8, num=300, dtype=torch.float32)
    z[:, ::3] = 0
    z[:, 1::3] = z[:, 1:2]
    gradients = [
        value_and_gradient(function, z, target, directions)[1]
        for function in (sliced_wasserstein, plain_sliced_wasserstein)
    ]
    for rows in (slice(0, None, 3), slice(1, None, 3)):
        sums = [gradient[:, rows].sum(1) for gradient in gradients]
        torch.testing.assert_close(*sums, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[0][:, 2::3], gradients[1][:, 2::3], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("broken", [float("nan"), -float("nan"), float("inf"), -float("inf")])
def test_a_broken_feature_breaks_the_value_and_nothing_else(dtype, broken):
    z, target, directions = draw(batch=40, dtype=dtype)
    z[1, 7, 2] = broken
    value, _ = value_and_gradient(sliced_wasserstein, z, target, directions)
    assert not value.isfinite()


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
    assert_autocast_changes_nothing(sliced_wasserstein, z, target, directions, dtype=dtype)


def test_half_precision_is_computed_in_float32_and_float64_stays():
    z, target, directions = draw(dtype=torch.float32)
    half = sliced_wasserstein(z.bfloat16(), target, directions)
    assert half.dtype == torch.float32
    assert torch.equal(half, sliced_wasserstein(z.bfloat16().float(), target, directions))
    assert sliced_wasserstein(z.double(), target, directions).dtype == torch.float64


@pytest.mark.parametrize(
    ("z", "target", "directions", "message"),
    [
        ((4, 3), (4, 3), (2, 3), r"Expected features \(V, B, D\).*got shape \(4, 3\)"),
        ((2, 4, 3), (2, 4, 3), (2, 3), r"\(B, D\) = \(4, 3\), got \(2, 4, 3\)"),
        ((2, 0, 3), (0, 3), (2, 3), "at least 1 sample"),
        ((2, 4, 3), (5, 3), (2, 3), r"as many samples .* \(4, 3\), got \(5, 3\)"),
        ((2, 4, 3), (4, 2), (2, 3), r"as many features.* \(4, 3\), got \(4, 2\)"),
        ((2, 4, 3), (4, 3), (2, 5), r"with D = 3 .*got shape \(2, 5\)"),
        ((2, 4, 3), (4, 3), (3, 7, 3), "each of the 2 views, but there are 3"),
        ((2, 4, 3), (4, 3), (0, 3), "at least 1 direction"),
        ((2, 4, 3), (4, 3), (3,), r"directions \(N, D\) or \(V, N, D\) .*got shape \(3,\)"),
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
