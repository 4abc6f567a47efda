"""What an experiment found, as text: a table of ours beside theory and beside what is published, and the conditions."""

from __future__ import annotations

from rectified_lpjepa.experiment.file import Column, Published
from rectified_lpjepa.experiment.groups import Group, matches
from rectified_lpjepa.experiment.intervals import interval
from rectified_lpjepa.experiment.study import Findings
from rectified_lpjepa.sweep.status import aligned

_SIGNS = {True: "✓", False: "✗", None: "?"}


def summary(findings: Findings) -> str:
    """Lay out what an experiment found: means with 95 % intervals over seeds, and whether the conditions hold."""
    experiment = findings.study.experiment
    parts = [f"{experiment.title}\n{experiment.question.strip()}"]
    if findings.groups:
        parts.append(f"mean ± 95 % interval over seeds\n{_table(findings)}")
    else:
        parts.append("No run is finished.")
    parts += [f"{row.mark} {row.label}: {row.source}" for row in findings.published]
    parts.append("\n".join(f"{_SIGNS[one.holds]} {one.text}\n    {one.measured}" for one in findings.verdicts))
    return "\n\n".join(part for part in parts if part)


def is_beside(row: Published, group: Group) -> bool:
    """Say whether a published result is of the setting of a group: all that it says of itself agrees."""
    return matches(group.values, row.values) if row.values else row.label == group.label


def _table(findings: Findings) -> str:
    groups = findings.groups
    columns = [c for c in findings.study.experiment.columns if any(group.measured(c.metric) for group in groups)]
    measured = {metric for group in groups for point in group.points for metric in point.metrics}
    heading = ["", "seeds"]
    for column in columns:
        heading.append(column.label)
        if f"{column.metric}_target" in measured:
            heading.append("target")
        if any(column.metric in row.metrics for row in findings.published):
            heading.append("published")
    lines = [heading]
    for group in groups:
        beside = [row for row in findings.published if is_beside(row, group)]
        line = [group.label, str(len(group.points))]
        for column in columns:
            line.append(_mean(group.measured(column.metric), column))
            if f"{column.metric}_target" in measured:
                line.append(_mean(group.measured(f"{column.metric}_target")[:1], column))
            if any(column.metric in row.metrics for row in findings.published):
                line.append(_published(beside, column))
        lines.append(line)
    return aligned(lines, left=1)


def _mean(values: list[float], column: Column) -> str:
    found = interval(values)
    if found is None:
        return ""
    return _number(found.mean, column) + ("" if found.half is None else f" ± {_number(found.half, column)}")


def _published(rows: list[Published], column: Column) -> str:
    found = [(row.metrics[column.metric], row.mark) for row in rows if column.metric in row.metrics]
    return ", ".join(f"{_number(value, column)}{mark}" for value, mark in found)


def _number(value: float, column: Column) -> str:
    return f"{100 * value:.2f}" if column.unit == "%" else f"{value:.4g}"
