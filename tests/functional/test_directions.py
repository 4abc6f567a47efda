"""Directions: uniform on the sphere, orthonormal, or eigenvectors, against SciPy and NumPy."""

import numpy as np
import pytest
import scipy.stats
import torch

from rectified_lpjepa.functional import eigen_directions, orthogonal_directions, random_directions
from rectified_lpjepa.functional.directions import eigen_rows

DRAWS = [random_directions, orthogonal_directions]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num", "dim"), [(1, 1), (3, 8), (8, 8), (21, 8), (1, 300)])
def test_rows_are_unit_vectors(draw, dtype, num, dim):
    directions = draw(num, dim, generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert directions.shape == (num, dim)
    assert directions.dtype == dtype
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(num, dtype=dtype))


@pytest.mark.parametrize("draw", DRAWS)
def test_rows_are_uniform_on_the_sphere(draw):
    dim = 5
    generator = torch.Generator().manual_seed(0)
    # The first of each five: rows of one orthonormal basis depend on each other.
    rows = torch.cat([draw(dim, dim, generator=generator)[:1] for _ in range(1500)]).numpy()
    # A coordinate x of a uniform unit vector: (x + 1) / 2 ~ Beta((D − 1)/2, (D − 1)/2).
    law = scipy.stats.beta((dim - 1) / 2, (dim - 1) / 2, loc=-1, scale=2)
    along = np.ones(dim) / np.sqrt(dim)
    for coordinate in (rows[:, 0], rows[:, -1], rows @ along):
        assert scipy.stats.kstest(coordinate, law.cdf).pvalue > 0.01


def test_orthogonal_rows_are_orthonormal_within_each_basis():
    directions = orthogonal_directions(21, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for basis in directions.split(8):
        torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64))
    assert (directions[:8] @ directions[8:16].T).abs().max() > 0.5


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_follow_the_generator(draw):
    first, again = (draw(20, 6, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, draw(20, 6, generator=torch.Generator().manual_seed(4)))


@pytest.mark.parametrize("draw", DRAWS)
def test_errors(draw):
    with pytest.raises(ValueError, match="at least 1 direction, but 0"):
        draw(0, 4)
    with pytest.raises(ValueError, match="dim is 0"):
        draw(4, 0)


def features(batch: int, dim: int) -> torch.Tensor:
    scales = torch.linspace(0.5, 2.0, dim, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    return 3 + scales * torch.randn(2, batch, dim, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("batch", "dim"), [(40, 6), (5, 8), (8, 8), (9, 8)])
def test_eigen_directions_are_the_eigenvectors_of_the_covariance(batch, dim):
    z = features(batch, dim)
    directions = eigen_directions(z)
    count = min(batch - 1, dim)
    assert directions.shape == (2, count, dim)
    for view, vectors in zip(z.numpy(), directions.numpy(), strict=True):
        _, eigenvectors = np.linalg.eigh(np.cov(view.T))
        largest_first = eigenvectors.T[::-1][:count]
        np.testing.assert_allclose(np.abs((vectors * largest_first).sum(-1)), 1, rtol=1e-9)


def test_bottom_half_has_the_least_variance():
    z = features(40, 7)
    bottom = eigen_directions(z, bottom_half=True)
    assert torch.equal(bottom, eigen_directions(z)[:, 4:])
    assert eigen_rows(40, 7, bottom_half=True) == range(4, 7)
    assert eigen_rows(6, 7, bottom_half=True) == range(3, 5)


def test_eigen_directions_are_detached_and_at_least_float32():
    z = features(10, 4).to(torch.bfloat16).requires_grad_()
    directions = eigen_directions(z)
    assert not directions.requires_grad
    assert directions.dtype == torch.float32
    assert torch.equal(directions, eigen_directions(z.detach().float()))


def test_eigen_directions_of_collapsed_and_of_broken_features_are_finite_unit_vectors():
    for z in (torch.ones(2, 9, 4), torch.full((2, 9, 4), torch.nan), torch.full((2, 9, 4), torch.inf)):
        torch.testing.assert_close(eigen_directions(z).norm(dim=-1), torch.ones(2, 4))


def test_one_sample_has_no_eigen_directions():
    assert eigen_directions(torch.ones(2, 1, 4)).shape == (2, 0, 4)
