"""One page over all experiments and runs of a folder, to be sorted and filtered without a server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

from rectified_lpjepa.experiment.report import page
from rectified_lpjepa.experiment.report.pages import date, write_page
from rectified_lpjepa.experiment.report.results import Results
from rectified_lpjepa.experiment.study import FILE
from rectified_lpjepa.files import read_json
from rectified_lpjepa.sweep.manifest import shown
from rectified_lpjepa.sweep.status import ENCODER, L0, L0_TARGET, PROJECTOR, is_running

_NEVER_RUNS = {"checkpoints", "csv", "evaluation", "features", "figures", "tensorboard", page.FOLDER}


class Head(NamedTuple):
    """Heading of a column, and what it holds: a word, a number, or a text that may be long."""

    name: str
    kind: Literal["word", "number", "text"] = "word"


class Cell(NamedTuple):
    """What a cell shows, what it is sorted by, and where it links to."""

    text: str
    value: str
    link: str | None = None


@dataclass(frozen=True)
class Listing:
    """A table of the page."""

    id: str
    title: str
    heads: list[Head]
    rows: list[list[Cell]]


def write_index(root: Path) -> Path:
    """Write ``<root>/index.html``: the experiments and the runs below a folder, with links to reports and runs.

    A run is a folder with ``identity.json``, an experiment one with ``experiment.json``. Files that cannot be read are
    said to be damaged, and the others are listed all the same.

    Args:
        root: folder of runs, such as ``runs``.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}. HINT: name the folder that holds the runs, such as runs.")
    experiments, runs = [], []
    for folder, names in _folders(root):
        if FILE in names:
            experiments.append(_experiment(root, folder))
        if "identity.json" in names:
            runs.append(_run(root, folder))
    tables = [
        Listing("experiments", "Experiments", _EXPERIMENT_HEADS, experiments),
        Listing("runs", "Runs", _RUN_HEADS, runs),
    ]
    path = root / page.PAGE
    write_page(path, "index.html.j2", root=str(root), tables=tables)
    return path


def _folders(root: Path) -> Iterator[tuple[Path, list[str]]]:
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in _NEVER_RUNS)
        yield Path(folder), names


_EXPERIMENT_HEADS = [
    Head("experiment"),
    Head("profile"),
    Head("title", "text"),
    Head("runs", "number"),
    Head("conditions that hold"),
    Head("remarks", "number"),
    Head("date"),
    Head("commit"),
    Head("hardware"),
]


def _experiment(root: Path, folder: Path) -> list[Cell]:
    report = folder / page.FOLDER / page.PAGE
    link = _link(root, report if report.exists() else folder)
    try:
        results = Results.read(folder)
    except (ValueError, TypeError) as error:
        return [Cell(folder.name, folder.name, link), _text(None), _text(f"damaged: {error}"), *[_text(None)] * 6]
    holding = sum(condition.holds is True for condition in results.conditions)
    share = holding / len(results.conditions) if results.conditions else None
    return [
        Cell(results.experiment, results.experiment, link),
        _text(results.profile),
        _text(results.title),
        _number(len(results.points)),
        Cell(f"{holding} of {len(results.conditions)}" if results.conditions else "", _sortable(share)),
        _number(sum(len(point.remarks) for point in results.points)),
        _text(date(results.date)),
        _text(results.commit),
        _text(results.hardware),
    ]


_RUN_HEADS = [
    Head("run"),
    Head("state"),
    Head("data"),
    Head("backbone"),
    Head("objective"),
    Head("p", "number"),
    Head("μ", "number"),
    Head("seed", "number"),
    Head("epochs", "number"),
    Head("encoder, top-1 (%)", "number"),
    Head("projector, top-1 (%)", "number"),
    Head("ℓ0", "number"),
    Head("ℓ0 of the target", "number"),
    Head("seconds", "number"),
    Head("finished"),
    Head("hardware"),
]


def _run(root: Path, folder: Path) -> list[Cell]:
    name = str(folder.relative_to(root))
    try:
        identity, result, summary = (
            read_json(folder / f"{part}.json") or {} for part in ("identity", "result", "summary")
        )
        objective = identity["model"]["objective"]
        backbone = identity["model"]["backbone"]["name"]
        data = identity["data"]["class_path"]
    except (ValueError, KeyError, TypeError):
        return [Cell(name, name, _link(root, folder)), _text("damaged"), *[_text(None)] * (len(_RUN_HEADS) - 2)]
    metrics = result.get("metrics", {})
    state = "finished" if result else "running" if is_running(folder) else "not finished"
    return [
        Cell(name, name, _link(root, folder)),
        _text(state),
        _text(shown(data).removesuffix("DataModule")),
        _text(backbone),
        _text(shown(objective)),
        _number(summary.get("p")),
        _number(summary.get("mu")),
        _number(identity.get("seed_everything")),
        _number(result.get("epochs")),
        _measured(metrics, ENCODER, is_percent=True),
        _measured(metrics, PROJECTOR, is_percent=True),
        _measured(metrics, L0),
        _measured(metrics, L0_TARGET),
        _number(result.get("seconds")),
        _text(_modified(folder / "result.json")),
        _text(result.get("hardware")),
    ]


def _modified(path: Path) -> str:
    if not path.exists():
        return ""
    return date(datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat())


def _link(root: Path, path: Path) -> str:
    relative = quote(path.relative_to(root).as_posix())
    return f"{relative}/" if path.is_dir() else relative


def _text(value: str | None) -> Cell:
    return Cell(value or "", value or "")


def _number(value: float | None) -> Cell:
    return Cell("" if value is None else shown(value), _sortable(value))


def _measured(metrics: Mapping[str, float], name: str, *, is_percent: bool = False) -> Cell:
    value = metrics.get(name)
    text = "" if value is None else f"{100 * value:.2f}" if is_percent else f"{value:.4f}"
    return Cell(text, _sortable(value))


def _sortable(value: float | None) -> str:
    return "" if value is None else repr(float(value))
