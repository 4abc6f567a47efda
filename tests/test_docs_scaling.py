"""The tables of docs/scaling.md follow from the constants above them, and the measured constants from the records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
RECORDS = ROOT / "experiments" / "results" / "cluster"
VIEWS, DIM, DIRECTIONS, BYTES = 2, 2048, 8192, 4


def table(title: str) -> list[list[str]]:
    """The cells below the first table after a heading."""
    lines = TEXT.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:]


def number(cell: str) -> float:
    return float(re.sub(r"[,\s]", "", cell))


CONSTANTS = {name: number(value) for name, value, *_ in table("Measured") + table("Assumed")}


def compute(place: str, batch: int) -> tuple[float, float, float]:
    """Milliseconds of one process alone: network for each view, distance, target."""
    c = CONSTANTS
    if place == "CPU":
        return c["ms of network for each view"], c[f"ms of distance, B = {batch}"], c[f"ms of target, B = {batch}"]
    products = 2 * (2 * VIEWS + 1) * batch * DIM * DIRECTIONS / (1e9 * c["TFLOP/s in products, GPU"])
    sorting = (VIEWS + 1) * batch * DIRECTIONS / (1e6 * c["G values/s sorted, GPU"])
    target, directions = (rows * DIM / (1e6 * c["G normal numbers/s, GPU"]) for rows in (batch, DIRECTIONS))
    return c["ms of network for each view, GPU"], directions + products + sorting, target


def step(
    place: str, world_size: int, batch: int, *, replicated: bool = False, all_reduce: bool = False
) -> dict[str, float]:
    """Milliseconds of a step and its parts for one of W processes."""
    c, others = CONSTANTS, (world_size - 1) / world_size
    one_node = world_size <= c["processes in a node"]
    bandwidth = 1e6 * c["GB/s in a node" if one_node else "GB/s between nodes"]  # bytes per ms
    latency = c["µs of a small collective in a node" if one_node else "µs of a small collective between nodes"] / 1e3
    network, distance, target = compute(place, batch)
    parts = {
        "network": VIEWS * batch / world_size * network,
        "distance": distance / (1 if replicated else world_size),
        "target": target,
        "features": (3 if all_reduce else 2) * VIEWS * batch * DIM * BYTES * others / bandwidth,
        "parameters": 2 * c["parameters"] * BYTES * others / bandwidth,
        "batch norm": 2 * VIEWS * c["batch norms"] * latency if world_size > 1 else 0.0,
    }
    return parts | {"step": sum(parts.values())}


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def rows(place: str, batch: int) -> list[list[str]]:
    """The table of a place and a batch size."""
    lines = []
    for world_size in (1, 2, 4, 8, 16, 32, 64):
        ours = step(place, world_size, batch)
        replicated, all_reduce = (
            step(place, world_size, batch, **{way: True})["step"] for way in ("replicated", "all_reduce")
        )
        values = [*ours.values(), replicated, all_reduce, step(place, 1, batch)["step"] / ours["step"]]
        lines.append([str(world_size), *map(shown, values)])
    return lines


@pytest.mark.parametrize("place", ["CPU", "GPU"])
@pytest.mark.parametrize("batch", [128, 2048])
def test_the_table_follows_from_the_constants(place: str, batch: int) -> None:
    assert table(f"Global batch {batch}, {place}") == rows(place, batch)


def test_measured_constants_are_those_of_the_records() -> None:
    [network] = json.loads((RECORDS / "network-cpu.json").read_text())["rows"]
    expected = {
        "ms of network for each view": 1000 * network["s for each view"]["median"],
        "parameters": network["parameters"],
        "batch norms": network["batch norms"],
    }
    for batch in (128, 2048):
        one = json.loads((RECORDS / f"b{batch}_d2048" / "processes-cpu.json").read_text())["rows"][0]
        assert one["W"] == 1
        expected[f"ms of distance, B = {batch}"] = 1000 * one["distance s"]["median"]
        expected[f"ms of target, B = {batch}"] = 1000 * one["target s"]["median"]
    measured = {name: number(value) for name, value, *_ in table("Measured")}
    assert measured == pytest.approx(expected, rel=5e-3)
