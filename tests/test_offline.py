"""Nothing is fetched and nobody is told anything unless a download was asked for: commands with the network closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# An audit hook hears of every connection and every look-up of a name that Python makes, whichever library asks for it.
CLOSED = """
import socket, sys

def refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "http.client.connect"):
        raise AssertionError(f"{event}{arguments}")
    if event in ("socket.connect", "socket.sendto") and not isinstance(arguments[1], (str, bytes)):  # no UNIX socket
        raise AssertionError(f"{event}{arguments}")

sys.addaudithook(refuse)
"""
COMMANDS = """
from rectified_lpjepa.main import main

def run(*arguments):
    sys.argv = ["rectified-lpjepa", *arguments]
    main()

digits, last = "configs/digits.yaml", root + "/run/checkpoints/last.ckpt"
small = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--model.optimizer.warmup_epochs=0"]
run("fit", "--config", digits, "--run.dir", root + "/run", *small, "--trainer.accelerator=cpu")
run("validate", "--ckpt_path", last)
run("evaluate", "knn", "--checkpoint", last, "--accelerator=cpu")
run("experiment", "run", "01", "--dry-run", "--root", root)
print("all done")
"""


def closed(code: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CLOSED + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=check)


def test_the_network_is_closed() -> None:
    for code in ("socket.create_connection(('127.0.0.1', 9))", "socket.socket().connect(('127.0.0.1', 9))"):
        assert "AssertionError: socket." in closed(code, check=False).stderr


def test_a_first_run_its_evaluation_and_an_experiment_need_no_network(tmp_path: Path) -> None:
    done = closed(f"root = {str(tmp_path)!r}\n{COMMANDS}")
    assert done.stdout.rstrip().endswith("all done")
    assert "equal to training's log" in done.stdout
    for word in ("litlogger", "litmodels", "Tip", "tip:", "http"):
        assert word not in done.stdout + done.stderr, word
