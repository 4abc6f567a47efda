"""Values matched to targets of their rank, against a loop over NumPy sorts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rectified_lpjepa.functional import matching
from rectified_lpjepa.functional.matching import match_


def reference(values, targets):
    """Differences in place and their sum of squares, one problem after the other."""
    out = values.copy()
    for problem, target in zip(out, np.sort(targets), strict=True):
        for sample in problem:
            sample[np.argsort(sample, kind="stable")] = np.sort(sample) - target
    return out, float(np.square(out.astype(np.float64)).sum())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (40, 2, 300), (2, 3, 1024), (3, 1, 70_000)])
def test_equals_the_reference(dtype, shape):
    generator = np.random.default_rng(0)
    # All different, as the order among equals is open.
    values = generator.permuted(np.linspace(-2, 2, int(np.prod(shape)), dtype=dtype).reshape(shape), axis=-1)
    targets = generator.standard_normal((shape[0], shape[2])).astype(dtype)
    expected, squares = reference(values, targets)
    ours = torch.from_numpy(values)
    total = match_(ours, torch.from_numpy(targets))
    np.testing.assert_array_equal(ours.numpy(), expected)
    assert total.dtype == torch.float64
    assert total.item() == pytest.approx(squares, rel=1e-6)


floats = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**60), max_value=2.0**60)


@settings(max_examples=200)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=floats))
def test_any_values_get_the_target_of_their_rank(values):
    # Including ties, both zeros and subnormal numbers, where only the order among equals is open.
    targets = np.arange(values.shape[2], dtype=np.float32) * np.ones((len(values), 1), np.float32)
    ours = torch.from_numpy(values.copy())
    match_(ours, torch.from_numpy(targets.copy()))
    packed, plain = (
        np.sort(array.reshape(-1, array.shape[2])) for array in (ours.numpy(), reference(values, targets)[0])
    )
    np.testing.assert_array_equal(packed, plain)


def test_packed_and_sorted_ways_agree():
    generator = torch.Generator().manual_seed(0)
    values, targets = torch.randn(70, 2, 500, generator=generator), torch.randn(70, 500, generator=generator)
    results = []
    for way in (matching._match_packed_, matching._match_sorted_):
        own, own_targets = values.clone(), targets.clone()
        results.append((own, way(own, own_targets)))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-6, atol=0)


def test_nan_of_any_bits_leaves_every_place_in_bounds():
    values = torch.zeros(2, 2, 64)
    values.view(torch.int32)[0, 0, :6] = torch.tensor(
        [0x7FC00000, 0x7F800001, 0x7FFFFFFF, -0x400000, -1, -0x7FFFFF], dtype=torch.int32
    )
    total = match_(values, torch.ones(2, 64))
    assert total.isnan()
    assert (values[1] == -1).all()
    assert (values[0, 1] == -1).all()
