"""What an experiment found, as text: a table of ours beside theory and beside what is published, and the conditions."""

from __future__ import annotations

from rectified_lpjepa.commands import aligned
from rectified_lpjepa.experiment.intervals import interval
from rectified_lpjepa.experiment.presentation import Column, Published, is_beside
from rectified_lpjepa.experiment.study import Findings

_NAMED = 3  # results of one source that are named; of more, the first and the last
_SIGNS = {True: "✓", False: "✗", None: "?"}


def summary(findings: Findings) -> str:
    """Lay out what an experiment found: means with 95 % intervals over seeds, and whether the conditions hold."""
    experiment = findings.study.experiment
    parts = [f"{experiment.title}\n{experiment.question.strip()}"]
    if findings.groups:
        parts.append(f"{findings.state}; mean ± 95 % interval over seeds\n{_table(findings)}")
    else:
        parts.append(findings.state)
    parts.append(_sources(findings.published))
    parts.append("\n".join(f"{_SIGNS[one.holds]} {one.text}\n    {one.measured}" for one in findings.verdicts))
    return "\n\n".join(part for part in parts if part)


def _sources(rows: list[Published]) -> str:
    """Say once for each source which results come from it."""
    labels: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        labels.setdefault((row.mark, row.source), []).append(row.label)
    return "\n".join(
        f"{mark} {', '.join(names) if len(names) <= _NAMED else f'{names[0]} … {names[-1]}'}: {source}"
        for (mark, source), names in labels.items()
    )


def _table(findings: Findings) -> str:
    groups, rows = findings.groups, findings.published
    shown = [c for c in findings.study.experiment.columns if any(group.measured(c.metric) for group in groups)]
    beside = {column.metric: any(column.metric in row.metrics for row in rows) for column in shown}
    theory = {column.metric: any(group.measured(f"{column.metric}_target") for group in groups) for column in shown}
    heading = ["", "seeds"]
    for column in shown:
        heading += [column.label, *["target"] * theory[column.metric], *["published"] * beside[column.metric]]
    lines = [heading]
    for group in groups:
        line = [group.label, str(len(group.points))]
        for column in shown:
            line.append(_mean(group.measured(column.metric), column))
            if theory[column.metric]:
                line.append(_mean(group.measured(f"{column.metric}_target")[:1], column))
            if beside[column.metric]:
                line.append(_published([row for row in rows if is_beside(row, group)], column))
        lines.append(line)
    for row in rows:
        if not any(is_beside(row, group) for group in groups):
            line = [row.label, ""]
            for column in shown:
                line += ["", *[""] * theory[column.metric], *[_published([row], column)] * beside[column.metric]]
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
