"""The order of the test files, and what tests of every part of the program ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rectified_lpjepa.main import main


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long by themselves.

    `--dist loadfile` hands whole files to the workers. A file of a minute that comes last keeps one worker busy and the
    others waiting, however few tests it has.
    """
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the program, which must end with an exit code, and return what it says of that."""

    def run(*arguments: str, code: int = 1) -> str:
        monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        message = capsys.readouterr().err
        assert stop.value.code == code, message
        return message

    return run
