"""A benchmark says the same on the screen and in its file."""

import json

import torch

from rectified_lpjepa.benchmarks.measure import Spread
from rectified_lpjepa.benchmarks.report import report, table

ROWS = [{"size": "2, 3", "seconds": Spread(0.12345, 0.1, 0.2), "ratio": 12345.6, "count": 7}]


def test_table_and_file_say_the_same(tmp_path, capsys):
    path = report("example", "something plain", ROWS, device="cpu", out=str(tmp_path / "new"))
    assert path == tmp_path / "new" / "example-cpu.json"
    stored = json.loads(path.read_text())
    assert stored["benchmark"] == "example"
    assert stored["baseline"] == "something plain"
    assert stored["rows"] == [
        {"size": "2, 3", "seconds": {"median": 0.12345, "low": 0.1, "high": 0.2}, "ratio": 12345.6, "count": 7}
    ]
    assert stored["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"date", "command", "commit", "hardware", "threads"} <= stored.keys()
    printed = capsys.readouterr().out
    assert stored["hardware"] in printed
    assert "something plain" in printed
    assert table(ROWS) in printed


def test_table():
    assert table(ROWS).splitlines() == [
        "size          seconds   ratio  count",
        "2, 3  0.123 (0.1–0.2)  12,346      7",
    ]
