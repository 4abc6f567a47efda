"""The two sparsities, against a loop over rows and rows whose sparsity is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from rectified_lpjepa.functional import l0_sparsity, l1_sparsity

features = st_numpy.arrays(
    np.float64,
    st_numpy.array_shapes(min_dims=2, max_dims=3, max_side=6),
    elements=st.one_of(st.just(0.0), st.floats(-100, 100).filter(lambda x: abs(x) > 1e-6)),
)


@given(features)
def test_equal_a_loop_over_rows(z):
    l0, l1 = [], []
    for row in z.reshape(-1, z.shape[-1]):
        l0.append(np.linalg.norm(row, 0) / len(row))
        l2 = np.linalg.norm(row, 2)
        l1.append((np.linalg.norm(row, 1) / l2) ** 2 / len(row) if l2 > 0 else 0.0)
    np.testing.assert_allclose(l0_sparsity(torch.from_numpy(z)).item(), np.mean(l0), rtol=1e-12)
    np.testing.assert_allclose(l1_sparsity(torch.from_numpy(z)).item(), np.mean(l1), rtol=1e-12)


def test_known_rows():
    one_hot, constant, zero = torch.eye(8)[:3], -2 * torch.ones(3, 8), torch.zeros(3, 8)
    assert l0_sparsity(one_hot) == l1_sparsity(one_hot) == 1 / 8
    assert l0_sparsity(constant) == l1_sparsity(constant) == 1
    assert l0_sparsity(zero) == l1_sparsity(zero) == 0
    assert l1_sparsity(torch.cat([one_hot, zero])) == 1 / 16


@pytest.mark.parametrize("factor", [1e-38, 1e-25, 1e25])
def test_l1_does_not_depend_on_the_scale(factor):
    z = torch.rand(4, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(l1_sparsity(factor * z), l1_sparsity(z))


def test_l1_is_differentiable():
    z = torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(l1_sparsity, z)
    zero = torch.zeros(3, 5, requires_grad=True)
    l1_sparsity(zero).backward()
    assert torch.equal(zero.grad, torch.zeros(3, 5))


@pytest.mark.parametrize("measure", [l0_sparsity, l1_sparsity])
def test_dtypes(measure):
    z = torch.rand(4, 300, generator=torch.Generator().manual_seed(0)).sub(0.5).relu()
    assert measure(z).dtype == torch.float32
    assert measure(z.double()).dtype == torch.float64
    assert measure(z.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(measure(z.bfloat16()), measure(z), rtol=1e-2, atol=0)


def test_nan_is_not_hidden():
    assert l1_sparsity(torch.tensor([[torch.nan, 1.0]])).isnan()
