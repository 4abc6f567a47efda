"""The cores that a process may use."""

from __future__ import annotations

import os

import pytest

from rectified_lpjepa.machine import available_cores


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert available_cores() == 2


@pytest.mark.parametrize(("counted", "cores"), [(6, 6), (None, 1)])
def test_where_the_system_does_not_tell_them_apart_they_are_all_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, counted: int | None, cores: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert available_cores() == cores
