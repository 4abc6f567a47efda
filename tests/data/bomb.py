"""What must never be unpickled."""

from __future__ import annotations

from typing import Any

import pytest


class Bomb:
    """Fails the test in which it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a file that is not trusted was unpickled",))
