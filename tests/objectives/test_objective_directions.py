"""The directions of a step: a function of seed and step, whoever draws which share."""

import pytest
import torch

from rectified_lpjepa.functional import eigen_directions
from rectified_lpjepa.functional.randomness import Blocks
from rectified_lpjepa.objectives import Directions, Shard

KINDS = ["random", "orthogonal", "eigen", "eigen_bottom_half"]


def features(batch=12, dim=6, dtype=torch.float32):
    return torch.randn(2, batch, dim, generator=torch.Generator().manual_seed(0), dtype=dtype)


def drawn(blocks: Blocks) -> list[torch.Tensor]:
    """The eigenvectors (V, K, D), if there are any, and the others (n, D), if there are any."""
    parts = [block() for block in blocks]
    others = [part for part in parts if part.ndim == 2]
    return [part for part in parts if part.ndim == 3] + ([torch.cat(others)] if others else [])


def whole(blocks: Blocks, dim: int = 6) -> torch.Tensor:
    """All directions as (V, N, D)."""
    return torch.cat([torch.empty(2, 0, dim), *(part.expand(2, *part.shape[-2:]) for part in drawn(blocks))], dim=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num", [6, 1500])
@pytest.mark.parametrize("dim", [6, 700])
def test_directions_do_not_depend_on_the_number_of_processes(kind, num, dim):
    if kind.startswith("eigen") and num < 11 <= dim:
        num = 11
    z = features(dim=dim)
    directions = Directions(kind, num)
    alone = whole(directions.draw(z, seed=3, step=5), dim)
    assert alone.shape == (2, num, dim)
    torch.testing.assert_close(alone.norm(dim=-1), torch.ones(2, num))
    for world_size in (2, 4, 7):
        shares = [whole(directions.draw(z, seed=3, step=5, shard=Shard(r, world_size)), dim) for r in range(world_size)]
        assert torch.equal(torch.cat(shares, dim=1), alone)
        assert [share.shape[1] for share in shares] == [len(Shard(r, world_size).rows(num)) for r in range(world_size)]


@pytest.mark.parametrize("kind", KINDS)
def test_directions_are_redrawn_each_step_and_for_each_seed(kind):
    z = features()
    draws = [
        whole(Directions(kind, 600).draw(z, seed=seed, step=step)) for seed, step in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert torch.equal(draws[0], draws[1])
    for other in draws[2:]:
        # No random row comes back, neither at its place nor anywhere else.
        drawn, other_drawn = draws[0][0, 6:], other[0, 6:]
        assert (drawn @ other_drawn.T).max() < 1 - 1e-6


@pytest.mark.parametrize("kind", ["random", "orthogonal"])
def test_directions_drawn_once_stay_the_same_for_the_whole_run(kind):
    fixed, z = Directions(kind, 600, redrawn=False), features()
    first = whole(fixed.draw(z, seed=3, step=0))
    assert torch.equal(first, whole(fixed.draw(features() + 1, seed=3, step=7)))
    assert torch.equal(first, whole(Directions(kind, 600).draw(z, seed=3, step=0)))
    assert not torch.equal(first, whole(fixed.draw(z, seed=4, step=0)))


def test_eigenvectors_are_those_of_the_step_though_random_rows_are_drawn_once():
    fixed, z = Directions("eigen", 20, redrawn=False), features()
    eigen, others = drawn(fixed.draw(z, seed=0, step=0))
    later_eigen, later_others = drawn(fixed.draw(z.flip(-1), seed=0, step=1))
    assert not torch.allclose(eigen, later_eigen)
    assert torch.equal(others, later_others)


def test_blocks_differ():
    (rows,) = drawn(Directions("random", 1024).draw(features(dim=40), seed=0, step=0))
    assert (rows[:512] @ rows[512:].T).abs().max() < 0.9


@pytest.mark.parametrize("dim", [6, 200, 700])
def test_orthogonal_blocks_hold_whole_bases(dim):
    (rows,) = drawn(Directions("orthogonal", 1500).draw(features(dim=dim, dtype=torch.float64), seed=0, step=0))
    for basis in rows.split(dim):
        torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64))


@pytest.mark.parametrize(("kind", "bottom_half", "count"), [("eigen", False, 6), ("eigen_bottom_half", True, 3)])
def test_eigenvectors_come_first_and_random_ones_fill_up(kind, bottom_half, count):
    z = features()
    eigen, others = drawn(Directions(kind, 20).draw(z, seed=0, step=0))
    assert torch.equal(eigen, eigen_directions(z, bottom_half=bottom_half))
    assert eigen.shape == (2, count, 6)
    assert others.shape == (20 - count, 6)


def test_share_without_eigenvectors_does_not_decompose(monkeypatch):
    monkeypatch.setattr(torch.linalg, "svd", None)
    (others,) = drawn(Directions("eigen", 20).draw(features(), seed=0, step=0, shard=Shard(1, 2)))
    assert others.shape == (10, 6)


def test_exactly_as_many_directions_as_eigenvectors():
    (eigen,) = drawn(Directions("eigen", 6).draw(features(), seed=0, step=0))
    assert eigen.shape == (2, 6, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_dtype_follows_the_features_but_is_never_half(kind):
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        parts = drawn(Directions(kind, 20).draw(features(dtype=dtype).requires_grad_(), seed=0, step=0))
        assert {part.dtype for part in parts} == {expected}
        assert not any(part.requires_grad for part in parts)


def test_errors():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Directions("random", 0)
    with pytest.raises(ValueError, match="Unknown kind of directions 'axes'; choose from random, orthogonal, eigen"):
        Directions("axes")
    with pytest.raises(ValueError, match=r"5 directions of kind 'eigen', but a batch of 12 .* 6 features has 6 eigen"):
        Directions("eigen", 5).draw(features(), seed=0, step=0)
    with pytest.raises(ValueError, match="at least 6"):
        # Every process refuses, also one whose share holds no eigenvector.
        Directions("eigen", 5).draw(features(), seed=0, step=0, shard=Shard(3, 4))
    Directions("eigen_bottom_half", 3).draw(features(), seed=0, step=0)
