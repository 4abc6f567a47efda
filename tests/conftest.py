"""The order of the test files: those that take long by themselves are begun first.

`--dist loadfile` hands whole files to the workers. A file of a minute that comes last keeps one worker busy and the
others waiting, however few tests it has.
"""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)
