"""Confidence intervals."""

from __future__ import annotations

from typing import NamedTuple

from scipy.stats import t as student_t
from torch import Tensor


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float


def welch_interval(a: Tensor, b: Tensor, level: float = 0.95) -> Interval:
    """Estimate the difference of two means from independent samples of unequal variance (Welch 1947).

    Args:
        a: values (N,) of the first sample.
        b: values (M,) of the second.
        level: confidence level, in (0, 1).

    Returns:
        mean(a) − mean(b) and its interval, all NaN if a sample has fewer than two values. Where neither sample varies
        the interval is the difference itself.
    """
    if min(len(a), len(b)) < 2:
        return Interval(*[float("nan")] * 3)
    a, b = a.double(), b.double()
    difference = float(a.mean() - b.mean())
    square_a, square_b = float(a.var() / len(a)), float(b.var() / len(b))
    if square_a + square_b == 0:
        return Interval(difference, difference, difference)
    freedom = (square_a + square_b) ** 2 / (square_a**2 / (len(a) - 1) + square_b**2 / (len(b) - 1))
    half = float(student_t.ppf((1 + level) / 2, freedom)) * (square_a + square_b) ** 0.5
    return Interval(difference, difference - half, difference + half)
