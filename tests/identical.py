"""Equality of nested values, tensors to the last bit."""

from __future__ import annotations

from typing import Any

import torch


def assert_identical(left: Any, right: Any, where: str = "") -> None:
    """Compare nested values; NaN equals NaN."""
    assert type(left) is type(right), where
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_identical(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for place, pair in enumerate(zip(left, right, strict=True)):
            assert_identical(*pair, f"{where}/{place}")
    elif isinstance(left, torch.Tensor):
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True, msg=where)
    else:
        assert left == right or left != left != right, where
