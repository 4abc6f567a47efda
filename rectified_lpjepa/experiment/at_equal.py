"""A method's metric where a measured quantity has a given value, such as accuracy at an equal measured sparsity.

The settings of the method make a curve of the metric over the quantity. It is linear in the logarithm of the quantity
between its settings, and ends with them: nothing is extrapolated.

For a run of another method it is the curve of the run's own seed, where the two settings on both sides, neighbours on
the curve, were run with that seed: then what a seed does to both methods falls out of their difference. Elsewhere each
setting lies on the curve at its means over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

import numpy as np

from rectified_lpjepa.experiment.groups import Group, Point


class Place(NamedTuple):
    """Where a run, or a setting, lies.

    Attributes:
        at: the measured quantity.
        value: the metric.
    """

    at: float
    value: float


def place_of(point: Point, metric: str, over: str) -> Place | None:
    """Give where a run lies, None where one of the two is not measured.

    Args:
        point: the run.
        metric: its name.
        over: name of the quantity.
    """
    place = Place(point.metrics.get(over, math.nan), point.metrics.get(metric, math.nan))
    return place if all(map(math.isfinite, place)) else None


class Curve:
    """A metric over a measured quantity.

    Args:
        groups: the settings along the curve, in any order. A run that lacks the metric, or whose quantity is not above
            zero, is left out.
        metric: its name.
        over: name of the quantity.
    """

    def __init__(self, groups: Sequence[Group], metric: str, over: str) -> None:
        settings = [
            {point.seed: place for point in group.points if (place := place_of(point, metric, over)) and place.at > 0}
            for group in groups
        ]
        self._settings = sorted((places for places in settings if places), key=_mean_place)

    @property
    def ends(self) -> tuple[float, float] | None:
        """The least and the largest quantity, as means over seeds; None for a curve without settings."""
        return (_mean_place(self._settings[0]).at, _mean_place(self._settings[-1]).at) if self._settings else None

    def value(self, at: float, seed: int) -> float | None:
        """Give the metric where the quantity has a value, None beyond the ends of the curve.

        Args:
            at: the value.
            seed: of the run that it is for.
        """
        own = sorted((places[seed], rank) for rank, places in enumerate(self._settings) if seed in places)
        for (low, first), (high, second) in pairwise(own):
            if abs(first - second) == 1 and low.at <= at <= high.at:
                return _interpolated(at, [low, high])
        if self.ends is None or not self.ends[0] <= at <= self.ends[1]:
            return None
        return _interpolated(at, [_mean_place(places) for places in self._settings])


def _mean_place(places: Mapping[int, Place]) -> Place:
    return Place(fmean(place.at for place in places.values()), fmean(place.value for place in places.values()))


def _interpolated(at: float, places: Sequence[Place]) -> float:
    return float(np.interp(math.log(at), [math.log(place.at) for place in places], [place.value for place in places]))
