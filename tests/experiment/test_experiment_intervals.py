"""Intervals over seeds agree with SciPy's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rectified_lpjepa.experiment.intervals import difference, interval

VALUES = st.lists(st.floats(-10, 10), min_size=2, max_size=6).filter(lambda values: max(values) - min(values) > 1e-3)


@given(VALUES)
def test_the_interval_of_a_mean_is_scipys(values: list[float]) -> None:
    found = interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found is not None
    assert found.half is not None
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high), abs=1e-9)


@given(VALUES, VALUES)
def test_the_interval_of_a_difference_is_scipys(first: list[float], second: list[float]) -> None:
    found = difference(first, second)
    low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found.half is not None
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high), abs=1e-9)


def test_few_values_have_no_interval() -> None:
    assert interval([]) is None
    assert interval([math.nan]) is None
    assert interval([2.0, math.nan]) == (2.0, None, 1)
    assert difference([3.0], [1.0, 2.0]) == (1.5, None, 1)
    assert difference([3.0, 3.0], [1.0, 1.0]) == (2.0, 0.0, 2)
