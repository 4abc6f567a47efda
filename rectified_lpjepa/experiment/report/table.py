"""The tables of a report: ours beside published beside predicted, and what each condition compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rectified_lpjepa.experiment.groups import Group
from rectified_lpjepa.experiment.presentation import Column, Published, is_beside
from rectified_lpjepa.experiment.report.quantities import Quantity, quantity
from rectified_lpjepa.experiment.report.results import Results, mean_of
from rectified_lpjepa.experiment.verdicts import Verdict

Cell = list[tuple[str, int | None]]
_TOLD = ("setting", "seed", "seeds")  # of a condition's cells: what is no number to be shown in a unit


@dataclass(frozen=True)
class Head:
    """A metric and what is shown of it, such as ours and published."""

    label: str
    parts: list[str]


@dataclass(frozen=True)
class Row:
    """A setting: its number of seeds, and for each metric a cell for each part; a cell is texts with references."""

    label: str
    seeds: str
    cells: list[list[Cell]]


@dataclass(frozen=True)
class Table:
    """Heads, rows, and whether a setting has a single seed."""

    heads: list[Head]
    rows: list[Row]
    is_single: bool


def make_table(results: Results) -> Table:
    """Lay out what was measured: a row for each setting, and one for each published result without one.

    A column of the experiment without any number, as another profile may have it, is left out.
    References number the sources of what is published, see :func:`sources`.
    """
    number = {key: index for index, key in enumerate(sources(results), 1)}
    columns = [quantity(column.metric, results.columns) for column in results.columns if _is_known(results, column)]
    parts = [_parts(results, column) for column in columns]
    rows = []
    for group in results.groups:
        beside = [(number[one.source, one.mark], one) for one in results.published if is_beside(one, group)]
        cells = [
            [_cell(part, column, group, beside) for part in own] for column, own in zip(columns, parts, strict=True)
        ]
        rows.append(Row(group.label, str(len(group.points)), cells))
    for one in results.published:
        if not any(is_beside(one, group) for group in results.groups) and any(c.metric in one.metrics for c in columns):
            cells = [
                [_cell(part, column, None, [(number[one.source, one.mark], one)]) for part in own]
                for column, own in zip(columns, parts, strict=True)
            ]
            rows.append(Row(one.label, "not run", cells))
    heads = [Head(column.axis, own) for column, own in zip(columns, parts, strict=True)]
    return Table(heads, rows, any(len(group.points) == 1 for group in results.groups))


@dataclass(frozen=True)
class CellTable:
    """What a condition compared: its text, headings, and a row of texts for each setting, or each setting and seed."""

    condition: str
    heads: list[str]
    rows: list[list[str]]


def make_cell_table(verdict: Verdict, columns: Sequence[Column]) -> CellTable | None:
    """Lay out what a condition compared, None where it is of a kind that keeps no table of it."""
    if not verdict.cells:
        return None
    names = list(dict.fromkeys(name for cell in verdict.cells for name in cell))
    # Keys that are no metrics, such as the difference, are in the unit of what the condition is about.
    found = {name: quantity(name.removesuffix("_target") if "/" in name else verdict.metric, columns) for name in names}
    heads = [_head(name, found[name]) for name in names]
    rows = [[_told(cell.get(name), found[name], name) for name in names] for cell in verdict.cells]
    return CellTable(verdict.text, heads, rows)


def _head(name: str, of: Quantity) -> str:
    if "/" in name:
        return of.axis + (" of the target" if name.endswith("_target") else "")
    return name if name in _TOLD or not of.unit else f"{name} ({of.unit})"


def _told(value: Any, of: Quantity, name: str) -> str:
    if value is None:
        return ""
    return str(value) if name in _TOLD else of.shown(value)


def sources(results: Results) -> list[tuple[str, str]]:
    """List where the published results come from, each once, with their marks."""
    return list(dict.fromkeys((one.source, one.mark) for one in results.published))


def _is_known(results: Results, column: Column) -> bool:
    """Say whether a metric was measured or is published; a profile need not evaluate all that another does."""
    is_measured = any(mean_of(group, column.metric) is not None for group in results.groups)
    return is_measured or any(column.metric in row.metrics for row in results.published)


def _parts(results: Results, column: Quantity) -> list[str]:
    parts = ["ours"]
    if any(column.metric in one.metrics for one in results.published):
        parts.append("published")
    if any(f"{column.metric}_target" in point.metrics for point in results.points):
        parts.append("predicted")
    return parts


def _cell(part: str, column: Quantity, group: Group | None, beside: list[tuple[int, Published]]) -> Cell:
    if part == "published":
        return [
            (column.shown(one.metrics[column.metric]) + one.mark, index)
            for index, one in beside
            if column.metric in one.metrics
        ]
    if group is None:
        return []
    found = mean_of(group, column.metric if part == "ours" else f"{column.metric}_target")
    if found is None:
        return []
    if part == "predicted":
        return [(column.shown(found.mean), None)]
    fewer = f" (n = {found.n})" if found.n < len(group.points) else ""
    return [(column.shown_interval(found) + fewer, None)]
