"""Welch's interval, against SciPy."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from rectified_lpjepa.functional.intervals import welch_interval


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(2, 30), st.floats(0.5, 0.99))
def test_equals_scipy(seed, num_a, num_b, level):
    random = np.random.default_rng(seed)
    a, b = random.normal(1, 2, num_a), random.exponential(3, num_b)
    found = welch_interval(torch.from_numpy(a), torch.from_numpy(b), level)
    expected = ttest_ind(a, b, equal_var=False).confidence_interval(level)
    np.testing.assert_allclose(found, [a.mean() - b.mean(), *expected])


def test_without_variance_or_values():
    constant, other = torch.ones(5), torch.full((3,), 0.25)
    assert welch_interval(constant, other) == (0.75, 0.75, 0.75)
    for pair in ((constant, constant[:1]), (constant[:0], constant)):
        assert all(math.isnan(value) for value in welch_interval(*pair))
