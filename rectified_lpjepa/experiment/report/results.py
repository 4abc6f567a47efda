"""What an experiment found, as its ``experiment.json`` and the files of its runs say."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from rectified_lpjepa.experiment.groups import Group, Point, grouped
from rectified_lpjepa.experiment.intervals import Interval, interval
from rectified_lpjepa.experiment.presentation import Column, Figure, Published
from rectified_lpjepa.experiment.study import FILE
from rectified_lpjepa.experiment.verdicts import Verdict
from rectified_lpjepa.files import read_json


@dataclass(frozen=True)
class Results:
    """All that a report tells of.

    Attributes:
        folder: where ``experiment.json`` lies.
        experiment: its name, such as ``02_sparsity``.
        number: such as ``02``.
        title: for people.
        question: that it asks.
        profile: how large it was run.
        varied: short names of what varies, in order.
        points: one for each run.
        published: what is published beside.
        columns: of the table.
        figures: of the report.
        conditions: what was expected, and whether it is so.
        commit: of the code that the runs were trained with; several with commas between them.
        report_commit: of the code that wrote ``experiment.json``.
        date: of the last change.
        hardware: that it ran on.
        command: that repeats it.
        versions: of the libraries.
    """

    folder: Path
    experiment: str
    number: str
    title: str
    question: str
    profile: str
    varied: Sequence[str]
    points: Sequence[Point]
    published: Sequence[Published] = ()
    columns: Sequence[Column] = ()
    figures: Sequence[Figure] = ()
    conditions: Sequence[Verdict] = ()
    commit: str | None = None
    report_commit: str | None = None
    date: str | None = None
    hardware: str | None = None
    command: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what ``<folder>/experiment.json`` says.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no JSON, or a part of it is missing.
        """
        path = folder / FILE
        if not path.exists():
            raise FileNotFoundError(
                f"There is no {FILE} in {folder}. HINT: name the folder of an experiment's profile, such as "
                "runs/experiments/02_sparsity/smoke; `rectified-lpjepa experiment run` writes it."
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is no JSON: {error}. HINT: run the experiment again to write it anew.") from None
        parts = {"points": Point, "published": Published, "columns": Column, "figures": Figure, "conditions": Verdict}
        content |= {
            name: tuple(_build(kind, part, f"{path}, {name}[{index}]") for index, part in enumerate(content[name]))
            for name, kind in parts.items()
            if name in content
        }
        for point in content.get("points", ()):  # null: a number that is not defined
            for name in [name for name, value in point.metrics.items() if value is None]:
                del point.metrics[name]
        results: Self = _build(cls, content | {"folder": folder}, str(path))
        return results

    @cached_property
    def groups(self) -> list[Group]:
        """The points by their settings, seeds together, in the order of the experiment."""
        return grouped(self.points)

    def run_dir(self, point: Point) -> Path:
        """Return the run directory of a point."""
        return self.folder / point.run_dir

    def evaluation(self, point: Point, name: str) -> Mapping[str, Any] | None:
        """Return what an evaluation of a point wrote, None if none of its metrics is among the point's."""
        if not any(metric.startswith(f"{name}/") for metric in point.metrics):
            return None
        return read_json(self.run_dir(point) / "evaluation" / f"{name}.json")

    def summary(self, point: Point) -> Mapping[str, Any]:
        """Return what a run said of itself at its start, nothing if that is not at hand."""
        return read_json(self.run_dir(point) / "summary.json") or {}

    def history(self, point: Point, metric: str) -> dict[int, float]:
        """Return a metric that training logged, by the number of finished epochs; the last value of each epoch."""
        path = self.run_dir(point) / "csv" / "metrics.csv"
        if not path.exists():
            return {}
        with path.open(encoding="utf-8", newline="") as file:
            return {int(row["epoch"]) + 1: float(row[metric]) for row in csv.DictReader(file) if row.get(metric)}


def mean_of(group: Group, metric: str) -> Interval | None:
    """Return mean and 95 % interval of a metric over the seeds, None if no point has it."""
    return interval(group.measured(metric))


def _build(kind: type[Any], content: Mapping[str, Any], where: str) -> Any:
    """Make a dataclass from a mapping; keys that it does not know are for other readers."""
    required = {part.name for part in fields(kind) if part.default is MISSING and part.default_factory is MISSING}
    missing = sorted(required - content.keys())
    if missing:
        raise ValueError(
            f"{where} lacks {', '.join(missing)}. HINT: run the experiment again; this file is written by "
            "`rectified-lpjepa experiment run`."
        )
    return kind(**{part.name: content[part.name] for part in fields(kind) if part.name in content})
