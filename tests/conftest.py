"""What tests of every part of the program ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rectified_lpjepa.main import main


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
