"""The manifest of a sweep: one line for each point, whose number never changes.

A job that waits in a cluster's queue knows nothing but the number of its point. So a point keeps its line when the
sweep file changes: new points are appended, and those that left the file stay where they are.

The folder of a sweep::

    manifest.jsonl              a line for each point
    points/<id>/                the run directory of each point
    configs/                    the base configurations as they were when the points were written down
    logs/                       <id>.log of the local launcher, <job>_<index>.out of SLURM
    job.sh, submissions.jsonl   the job script, and the job arrays submitted
    results.csv, summary.csv    what `sweep collect` found

A point's directory is given to ``fit`` by ``--run.dir``: the usual ``runs/<name>-<hash of the identity>`` is known only
once PyTorch has built model and data. It is as safe. Its name ends with a hash of all that the sweep file and the base
configuration say about the numbers of the run, and ``fit`` refuses the directory of a run of another identity.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rectified_lpjepa.files import write_text
from rectified_lpjepa.sweep.file import Point, Sweep
from rectified_lpjepa.sweep.yaml_file import read_mapping

_LONGEST_LABEL = 100  # characters; a file name may have 255


@dataclass(frozen=True)
class Entry:
    """One line of the manifest.

    Attributes:
        index: number of the line from 0, and of the task in a job array.
        id: what varies, for people, and the key.
        key: hash of what decides the numbers of the run.
        config: name of the base configuration.
        options: values by dotted option of ``fit``.
        seed: of the run.
        run_dir: absolute path of the run directory.
        argv: arguments of the command line, from ``fit`` on.
    """

    index: int
    id: str
    key: str
    config: str
    options: dict[str, Any]
    seed: int
    run_dir: str
    argv: list[str]


class Plan(NamedTuple):
    """What a sweep file asks for, beside what is in the sweep's folder.

    Attributes:
        entries: all lines of the manifest, by index.
        current: those that the sweep file names.
        added: those that are new.
        removed: those that the sweep file does not name any more.
        configs: snapshots of the base configurations, content by path.
    """

    entries: list[Entry]
    current: list[Entry]
    added: list[Entry]
    removed: list[Entry]
    configs: dict[Path, str]


class Folder:
    """Where the files of a sweep lie.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.manifest = self.path / "manifest.jsonl"
        self.points = self.path / "points"
        self.logs = self.path / "logs"
        self.job_script = self.path / "job.sh"
        self.submissions = self.path / "submissions.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time write the manifest and submit jobs."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "sweep.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def read_manifest(path: Path) -> list[Entry]:
    """Read a manifest; one that does not exist has no points."""
    if not path.exists():
        return []
    return [Entry(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def write_plan(folder: Folder, plan: Plan) -> None:
    """Write manifest and configurations."""
    for path, text in plan.configs.items():
        if not path.exists():
            write_text(path, text)
    lines = [json.dumps(asdict(entry), ensure_ascii=False) for entry in plan.entries]
    write_text(folder.manifest, "".join(f"{line}\n" for line in lines))


def make_plan(sweep: Sweep, place: Path, folder: Folder) -> Plan:
    """Expand a sweep file, and find its points in the manifest.

    Args:
        sweep: the content of the sweep file.
        place: the folder in which the sweep file lies.
        folder: of the sweep.

    Raises:
        ValueError: two points are one and the same run.
    """
    entries = read_manifest(folder.manifest)
    known = {entry.key: entry for entry in entries}
    labels = short_names(sweep.varied)
    current: dict[str, Entry] = {}
    added = []
    contents: dict[Path, dict[str, Any]] = {}
    configs: dict[Path, str] = {}
    for point in sweep.expand(place):
        if point.config not in contents:
            contents[point.config] = read_mapping(point.config)
        key = point.key(contents[point.config])
        if key in current:
            raise ValueError(
                f"The sweep names the same run twice: {current[key].id}. HINT: look for a value, a seed or a point "
                "listed twice, or for base configurations that differ only in paths, workers or devices."
            )
        text = point.config.read_text(encoding="utf-8")
        snapshot = folder.path / "configs" / f"{point.config.stem}-{_hash(text)}.yaml"
        configs[snapshot] = text
        entry = known.get(key)
        if entry is None:
            entry = Entry(len(entries), _id(point, labels, key), key, point.config.stem, {}, point.seed, "", [])
            entries.append(entry)
            added.append(entry.index)
        run_dir = folder.points / entry.id
        entry = replace(entry, options=point.options, run_dir=str(run_dir), argv=_argv(point, snapshot, run_dir))
        entries[entry.index] = current[key] = entry
    removed = [entry for entry in entries if entry.key not in current]
    return Plan(entries, list(current.values()), [entries[index] for index in added], removed, configs)


def short_names(options: Sequence[str]) -> dict[str, str]:
    """Shorten dotted options to their last parts, as many as tell them apart."""
    parts = {option: [part for part in option.split(".") if part != "init_args"] for option in options}
    names = {}
    for option, own in parts.items():
        count = 1
        while count < len(own) and any(o != option and p[-count:] == own[-count:] for o, p in parts.items()):
            count += 1
        names[option] = ".".join(own[-count:])
    return names


def shown(value: Any) -> str:
    """Write the value of an option as people read it: 1 for 1.0, a class's or a file's name without its path."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        kind = value.get("class_path")
        return shown(kind) if kind else "+".join(f"{name}:{shown(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "+".join(shown(part) for part in value)
    text = str(value)
    return (
        Path(text).stem if "/" in text else text.rpartition(".")[2] if re.fullmatch(r"[a-z_]+(\.\w+)+", text) else text
    )


def _id(point: Point, labels: Mapping[str, str], key: str) -> str:
    told = [f"config={point.config.stem}"] if "config" in labels else []
    told += [f"{labels[option]}={shown(point.options[option])}" for option in point.varied]
    label = re.sub(r"[^\w.,:+=-]", "-", ",".join([*told, f"seed={point.seed}"]))
    return f"{label[:_LONGEST_LABEL]}_{key}"


def _argv(point: Point, config: Path, run_dir: Path) -> list[str]:
    options = {**point.options, "seed_everything": point.seed, "run.dir": str(run_dir)}
    return ["fit", "--config", str(config), *(as_argument(option, value) for option, value in options.items())]


def as_argument(option: str, value: Any) -> str:
    """Write an option for the command line, so that its value is read there with its type: ``--option=value``.

    The two stand in one argument, for a value such as -1e-05 would be taken for an option by itself.
    """
    return f"--{option}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
