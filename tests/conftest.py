"""What tests of every part of the program ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from rectified_lpjepa.main import main

# How long an example takes says nothing of the code where other work shares the cores.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


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
