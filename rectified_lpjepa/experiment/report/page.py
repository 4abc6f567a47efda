"""The report of an experiment: one HTML page with figures, tables and the facts of its runs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib as mpl

from rectified_lpjepa.experiment.file import POST_HOC
from rectified_lpjepa.experiment.report.drawing import Drawing, NothingToDrawError
from rectified_lpjepa.experiment.report.drawings import draw
from rectified_lpjepa.experiment.report.pages import date, write_page
from rectified_lpjepa.experiment.report.results import Results, mean_of
from rectified_lpjepa.experiment.report.table import make_cell_table, make_table, sources
from rectified_lpjepa.experiment.verdicts import Verdict
from rectified_lpjepa.files import atomic_write
from rectified_lpjepa.sweep.collect import write_csv
from rectified_lpjepa.sweep.manifest import shown

FOLDER = "report"
PAGE = "index.html"


def write_report(folder: Path) -> Path:
    """Write the report of an experiment into ``<folder>/report``.

    The page ``index.html`` holds all that it shows. Beside it are the figures as PNG and SVG, ``summary.csv`` with mean
    and 95 % interval of every metric, and ``conditions.csv`` with what conditions compared, where they keep it. A
    figure that the results do not suffice for is named with the reason.

    Args:
        folder: of a profile of an experiment, with its ``experiment.json``.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: the folder has no ``experiment.json``.
        ValueError: that file is damaged.
    """
    results = Results.read(folder)
    out = folder / FOLDER
    out.mkdir(exist_ok=True)
    for former in [*out.glob("figure_*.png"), *out.glob("figure_*.svg"), *out.glob("conditions.csv")]:
        former.unlink()
    figures, not_drawn = [], []
    for index, wanted in enumerate(results.figures, 1):
        try:
            drawings = draw(results, wanted)
        except NothingToDrawError as reason:
            not_drawn.append((wanted.title or wanted.kind.replace("_", " "), str(reason)))
            continue
        for part, drawing in enumerate(drawings, 1):
            name = f"figure_{index:02d}_{wanted.kind}" + (f"_{part}" if len(drawings) > 1 else "")
            figures.append(_save(drawing, out / name))
    write_csv(out / "summary.csv", _summary(results))
    if compared := _compared(results):
        write_csv(out / "conditions.csv", compared)
    write_page(
        out / PAGE,
        "report.html.j2",
        results=results,
        verdict=_verdict(results.conditions),
        table=make_table(results),
        date=date(results.date),
        cells=[made for one in results.conditions if (made := make_cell_table(one, results.columns))],
        sources=sources(results),
        marks={one.mark for one in results.published},
        figures=figures,
        not_drawn=not_drawn,
        remarks=_remarks(results),
        facts=_facts(results),
        runs=_runs(results),
    )
    return out / PAGE


def _save(drawing: Drawing, path: Path) -> dict[str, str]:
    """Write a figure as PNG and SVG, the same bytes each time, and return what a page needs to show it."""
    with mpl.rc_context({"svg.hashsalt": path.name}):
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
            with atomic_write(path.with_suffix(suffix)) as file:
                drawing.figure.savefig(file, format=suffix[1:], metadata=metadata)
    svg = base64.b64encode(path.with_suffix(".svg").read_bytes()).decode()
    # An image, not an element: the names within an SVG must not meet those of another.
    source = f"data:image/svg+xml;base64,{svg}"
    return {"name": path.name, "source": source, "title": drawing.title, "alt": drawing.alt, "note": drawing.note}


def _verdict(conditions: Sequence[Verdict]) -> str:
    if not conditions:
        return "No condition was set"
    holding = sum(condition.holds is True for condition in conditions)
    failing = sum(condition.holds is False for condition in conditions)
    text = f"{holding} of {len(conditions)} condition{'s' * (len(conditions) > 1)} hold{'s' * (holding == 1)}"
    is_open = len(conditions) - holding - failing
    return (
        text
        + (f", {failing} {'do' if failing > 1 else 'does'} not" if failing else "")
        + (f", {is_open} cannot be said" if is_open else "")
    )


def _summary(results: Results) -> list[dict[str, Any]]:
    """Make a row for each setting: its values, and mean and half the 95 % interval of each metric over the seeds."""
    metrics = dict.fromkeys(name for point in results.points for name in point.metrics)
    rows = []
    for group in results.groups:
        row: dict[str, Any] = {"label": group.label}
        row |= {name: shown(group.values.get(name)) for name in results.varied}
        row |= {"seeds": len(group.points)}
        for name in metrics:
            found = mean_of(group, name)
            row |= {f"{name} mean": found and found.mean, f"{name} ±": found and found.half}
        rows.append(row)
    return rows


def _compared(results: Results) -> list[dict[str, Any]]:
    """Make a row for each setting, or setting and seed, that a condition compared."""
    return [{"condition": one.text, **cell} for one in results.conditions for cell in one.cells]


@dataclass
class _Remark:
    severity: str
    text: str
    advice: str
    seen: list[tuple[str, str]]


def _remarks(results: Results) -> list[_Remark]:
    """Put the same remarks about several runs together."""
    found: dict[tuple[str, str, str], _Remark] = {}
    for point in results.points:
        for remark in point.remarks:
            key = remark["severity"], remark["text"], remark["advice"]
            one = found.setdefault(key, _Remark(*key, []))
            one.seen.append((f"{point.label}, seed {point.seed}", remark["measured"]))
    return list(found.values())


def _facts(results: Results) -> list[tuple[str, str]]:
    # A run that was evaluated once more, with another rectifier, was trained once.
    seconds = [point.seconds for point in results.points if POST_HOC not in point.values]
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    facts = {
        "runs": f"{len(seconds)}, {len(results.groups)} settings, {_duration(sum(seconds))} of training",
        "hardware": results.hardware,
        "commit of the runs": results.commit,
        "commit of the report": results.report_commit,
        "versions": versions,
        "date": date(results.date),
    }
    return [(name, value) for name, value in facts.items() if value]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _runs(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "id": point.id,
            "label": point.label,
            "seed": point.seed,
            "given": [shown(point.values.get(name)) for name in results.varied],
            "seconds": f"{point.seconds:.0f}",
            # Results that were copied without their runs have no directories to link to.
            "link": f"../{quote(point.run_dir)}/" if results.run_dir(point).is_dir() else None,
        }
        for point in results.points
    ]
