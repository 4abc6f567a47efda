"""Which commit a result names: that of the checkout, and without one that of the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from rectified_lpjepa import source


def test_outside_a_checkout_the_variable_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "__file__", str(tmp_path / "source.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("RECTIFIED_LPJEPA_COMMIT", raising=False)
    assert source.commit() == "unknown"
    monkeypatch.setenv("RECTIFIED_LPJEPA_COMMIT", "0123456789ab")
    assert source.commit() == "0123456789ab"


def test_without_git_the_variable_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("RECTIFIED_LPJEPA_COMMIT", "0123456789ab")
    assert source.commit() == "0123456789ab"
