"""One pass over data: statistics beside the law's, and rows kept for figures."""

from __future__ import annotations

import pytest
import torch

from rectified_lpjepa.metrics import EvaluatedFeatures, FeatureStatistics
from rectified_lpjepa.objectives import Target

LAW = Target(p=2.0, mu=0.0).law()


def batches(number: int, rows: int = 50, dim: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    return [torch.randn(rows, dim, generator=generator).relu() for _ in range(number)]


def test_a_pass_has_the_statistics_of_its_own_batches_alone() -> None:
    evaluated = EvaluatedFeatures(6, LAW)
    for number in (3, 2):
        evaluated.start(number)
        for z in batches(number):
            evaluated.update(z)
        found = evaluated.compute()
        expected = FeatureStatistics(6)
        expected.update(torch.cat(batches(number)))
        measured = expected.compute()
        assert float(found["sparsity/l0"]) == float(measured["l0"])
        assert float(found["features/variance"]) == pytest.approx(float(measured["variance"]), rel=1e-12)
        assert found["sparsity/l0_target"] == pytest.approx(0.5)
        assert found["features/dead_units_target"] == pytest.approx(0.5 ** (50 * number))


def test_without_a_law_nothing_is_predicted() -> None:
    evaluated = EvaluatedFeatures(6, None)
    evaluated.start(1)
    evaluated.update(batches(1)[0])
    assert {name for name in evaluated.compute() if name.endswith("_target")} == set()


def test_rows_are_kept_when_it_is_said_and_stay_until_the_next_time() -> None:
    evaluated = EvaluatedFeatures(6, LAW)
    assert evaluated.rows is None
    first, second = batches(4), batches(5)
    for passed, keep in ((first, True), (second, False)):
        evaluated.start(len(passed))
        for z in passed:
            evaluated.update(z)
        if keep:
            evaluated.keep_rows()
        assert evaluated.rows is not None
        torch.testing.assert_close(evaluated.rows, torch.cat(first), rtol=0, atol=0)
