"""Means over seeds, how well they are known, and how far two of them differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from scipy.stats import t as student

from rectified_lpjepa.functional.intervals import welch_interval

_LEVEL = 0.975  # of the quantile that bounds a two-sided 95 % interval


class Interval(NamedTuple):
    """A mean over seeds and its 95 % interval.

    Attributes:
        mean: of the values.
        half: half the width of the interval; None for a single value, which says nothing of its spread.
        n: number of values.
    """

    mean: float
    half: float | None
    n: int


def interval(values: Iterable[float]) -> Interval | None:
    """Give the mean of independent values with its two-sided 95 % interval by Student's t distribution.

    The interval is mean ± t · s / √n, with s the sample's standard deviation (n − 1) and t the .975 quantile for n − 1
    degrees of freedom. It takes the values as normally distributed.

    Args:
        values: one for each seed; those that are not finite are left out.

    Returns:
        The interval, or None without values.
    """
    finite = [value for value in values if math.isfinite(value)]
    n = len(finite)
    if n == 0:
        return None
    if n == 1:
        return Interval(finite[0], None, 1)
    return Interval(fmean(finite), float(student.ppf(_LEVEL, n - 1)) * stdev(finite) / math.sqrt(n), n)


def difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Give the difference of two means with its 95 % interval by Welch's t test, which allows different variances.

    Args:
        first: finite values, at least one.
        second: finite values, at least one, independent of the first.

    Returns:
        mean(first) − mean(second); without an interval where either is a single value. ``n`` is the smaller number.
    """
    n = min(len(first), len(second))
    if n == 1:
        return Interval(fmean(first) - fmean(second), None, 1)
    a, b = (torch.tensor(values, dtype=torch.float64) for values in (first, second))
    found = welch_interval(a, b)
    return Interval(found.value, (found.high - found.low) / 2, n)
