"""The mean of a statistic over directions: value and gradient against autograd of the plain mean."""

import pytest
import torch
from gradients import value_and_gradient
from hypothesis import given, settings
from sliced_problems import draw_without_target, problems_without_target

from rectified_lpjepa.functional.sliced_statistic import mean_over_directions


def fourth_moment_(projected, _):
    """Σ over directions and views of the mean of x⁴ over the batch, and its derivative."""
    total = projected.pow(4).mean(-1).sum()
    projected.copy_(4 * projected.pow(3) / projected.shape[-1])
    return total


def plain_fourth_moment(z, directions):
    return (directions @ z.mT).pow(4).mean()


@settings(max_examples=40)
@given(problem=problems_without_target)
def test_equals_autograd_of_the_plain_mean(problem):
    z, directions = problem
    found = value_and_gradient(mean_over_directions, z, directions, fourth_moment_)
    expected = value_and_gradient(plain_fourth_moment, z, directions)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("per_view", [False, True])
def test_many_directions_on_several_threads(threads, per_view):
    z, directions = draw_without_target(num=1500, per_view=per_view)
    found = value_and_gradient(mean_over_directions, z, directions, fourth_moment_)
    torch.testing.assert_close(found, value_and_gradient(plain_fourth_moment, z, directions), rtol=1e-12, atol=1e-14)
    assert torch.get_num_threads() == threads


def test_shares_add_up_to_the_whole_and_may_be_empty():
    z, directions = draw_without_target(num=10)
    own = draw_without_target(num=4, per_view=True, seed=1)[1]
    parts = [directions[:3], directions[3:3], own, directions[3:]]
    shares = [mean_over_directions(z, part, fourth_moment_, num_directions=14) for part in parts]
    blocks = [lambda part=part: part for part in parts]
    whole = plain_fourth_moment(z, torch.cat([directions.expand(2, -1, -1), own], dim=1))
    torch.testing.assert_close(sum(shares), whole)
    torch.testing.assert_close(mean_over_directions(z, blocks, fourth_moment_), whole)
    leaf = z.requires_grad_()
    mean_over_directions(leaf, [], fourth_moment_, num_directions=14).backward()
    assert torch.equal(leaf.grad, torch.zeros_like(leaf))


def test_a_second_derivative_is_refused_and_there_is_no_graph_without_a_gradient():
    z, directions = draw_without_target()
    assert not mean_over_directions(z, directions, fourth_moment_).requires_grad
    mean = mean_over_directions(z.requires_grad_(), directions, fourth_moment_)
    (gradient,) = torch.autograd.grad(3 * mean, z, create_graph=True)
    torch.testing.assert_close(gradient, 3 * value_and_gradient(plain_fourth_moment, z.detach(), directions)[1])
    with pytest.raises(RuntimeError, match=r"no second derivative.*HINT"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    z, directions = draw_without_target(dtype=torch.float32)
    z = z.to(dtype)
    with torch.autocast("cpu", dtype):
        value, gradient = value_and_gradient(mean_over_directions, z, directions, fourth_moment_)
    expected, _ = value_and_gradient(mean_over_directions, z.float(), directions, fourth_moment_)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert gradient.dtype == dtype


def test_errors():
    z, directions = draw_without_target()
    for arguments, message in [
        ((z[0], directions), r"features \(V, B, D\)"),
        ((z[:, :0], directions), "at least 1 sample"),
        ((z, directions[:, :3]), r"with D = 5 .* got shape \(9, 3\)"),
        ((z, directions[0]), r"got shape \(5,\)"),
        ((z, directions.expand(3, -1, -1)), "each of the 2 views, but there are 3"),
        ((z, directions[:0]), "at least 1 direction"),
        ((z, [lambda: directions.clone().requires_grad_()]), "HINT: detach"),
    ]:
        with pytest.raises(ValueError, match=message):
            mean_over_directions(*arguments, fourth_moment_)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        mean_over_directions(z, directions, fourth_moment_, num_directions=0)
