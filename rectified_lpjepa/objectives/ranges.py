"""Ranges of the numbers that objectives are built with; NaN lies in none of them."""

import math


def check_positive(name: str, value: float) -> None:
    """Raise a ValueError unless a number is finite and above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value}.")


def check_not_negative(name: str, value: float) -> None:
    """Raise a ValueError unless a number is finite and 0 or above."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number, 0 or above, got {value}.")


def check_share(name: str, value: float) -> None:
    """Raise a ValueError unless a number lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}.")
