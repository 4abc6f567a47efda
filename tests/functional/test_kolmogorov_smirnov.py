"""The Kolmogorov-Smirnov distance, against SciPy's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from rectified_lpjepa.functional.kolmogorov_smirnov import ks_statistic


@given(st.integers(0, 1000), st.integers(1, 30))
def test_equals_scipy(seed, samples):
    x = np.sort(np.random.default_rng(seed).normal(0.3, 1.2, (samples, 3)), axis=0)
    found = ks_statistic(torch.from_numpy(norm.cdf(x)))
    assert found.tolist() == pytest.approx([kstest(column, "norm").statistic for column in x.T])


@given(st.integers(0, 1000))
def test_of_the_last_values_of_each_column_alone(seed):
    x = np.sort(np.random.default_rng(seed).normal(size=(12, 4)), axis=0)
    used = x > np.array([-np.inf, 0.0, -0.5, np.inf])
    found = ks_statistic(torch.from_numpy(norm.cdf(x)), torch.from_numpy(used)).tolist()
    for value, column, rows in zip(found, x.T, used.T, strict=True):
        if rows.any():
            assert value == pytest.approx(kstest(column[rows], "norm").statistic)
        else:
            assert math.isnan(value)
