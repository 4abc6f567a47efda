"""One profile of an experiment: its runs, and what is known of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from rectified_lpjepa.experiment.file import POST_HOC, Experiment, PostHoc, Profile, find, read_experiment
from rectified_lpjepa.experiment.groups import Group, Point, grouped, matches
from rectified_lpjepa.experiment.presentation import Figure, Published
from rectified_lpjepa.experiment.stored import StoredEvaluations
from rectified_lpjepa.experiment.verdicts import Verdict, judge
from rectified_lpjepa.files import read_json, write_text
from rectified_lpjepa.loggers import logged_values
from rectified_lpjepa.remarks import remarks, start_remarks
from rectified_lpjepa.source import commit
from rectified_lpjepa.sweep import launch
from rectified_lpjepa.sweep.file import Sweep
from rectified_lpjepa.sweep.manifest import Entry, as_argument, shown
from rectified_lpjepa.sweep.status import Status, count

FILE = "experiment.json"
"""What is found, in the folder of a profile."""
LEARNT = ("train/probe_encoder/top1", "train/probe_projector/top1")
"""Accuracies in training whose means over all epochs are metrics of a run, too: ``epochs_mean/<name>``."""


@dataclass(frozen=True)
class Variant:
    """A finished run, as it is to be evaluated.

    Attributes:
        entry: the run in its sweep.
        status: how it ended.
        directory: where its evaluations lie.
        post_hoc: how it is evaluated; None for evaluation as it was trained.
    """

    entry: Entry
    status: Status
    directory: Path
    post_hoc: PostHoc | None = None

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint of the run."""
        return Path(self.entry.run_dir) / "checkpoints" / "last.ckpt"


@dataclass(frozen=True)
class Study:
    """One profile of an experiment, in its folder.

    Args:
        file: of the experiment.
        experiment: its content.
        profile_name: which profile.
        root: folder of all runs.
        given: further options of ``fit`` for all points.
    """

    file: Path
    experiment: Experiment
    profile_name: str
    root: str = "runs"
    given: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, name: str, profile: str, root: str = "runs", given: Mapping[str, Any] | None = None) -> Study:
        """Find and read an experiment.

        Args:
            name: number, whole name or path.
            profile: name of the profile.
            root: folder of all runs.
            given: further options of ``fit`` for all points.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: there is no such experiment or profile, the file is wrong, or a given option is the profile's.
        """
        file = find(name)
        study = cls(file, read_experiment(file), profile, root, given or {})
        study.sweep  # noqa: B018 - refuses what is wrong before anything is done
        return study

    @property
    def name(self) -> str:
        """The name of the experiment, such as ``02_sparsity``."""
        return self.file.stem

    @property
    def profile(self) -> Profile:
        """The profile."""
        return self.experiment.profiles[self.profile_name]

    @cached_property
    def sweep(self) -> Sweep:
        """The runs of the profile."""
        return self.experiment.sweep(self.name, self.profile_name, self.root, self.given)

    @property
    def folder(self) -> Path:
        """Where the runs and ``experiment.json`` lie."""
        return Path(self.sweep.root) / self.sweep.name

    @property
    def datasets(self) -> Path:
        """Where the data sets lie that are made for the evaluations."""
        return self.folder / "datasets"

    @property
    def command(self) -> str:
        """The command that does all of it."""
        words = ["rectified-lpjepa", "experiment", "run", self.name, "--profile", self.profile_name]
        words += [] if self.root == "runs" else ["--root", self.root]
        for option, value in self.given.items():
            words += ["--set", as_argument(option, value).removeprefix("--")]
        return shlex.join(words)

    def load(self) -> launch.Loaded:
        """Look how the runs are doing."""
        return launch.load(self.sweep, self.file.parent)

    def finished(self, loaded: launch.Loaded) -> Iterator[Variant]:
        """Give the runs that are finished, each as often as it is to be evaluated."""
        for entry in loaded.plan.current:
            status = loaded.statuses[entry.index]
            if status.state != "finished":
                continue
            yield Variant(entry, status, Path(entry.run_dir))
            for post_hoc in self.profile.post_hoc:
                if matches(self._values(entry), post_hoc.where):
                    directory = Path(entry.run_dir) / f"{POST_HOC}_{post_hoc.rectifier}"
                    yield Variant(entry, status, directory, post_hoc)

    def _values(self, entry: Entry) -> dict[str, Any]:
        """Give what varies, by short name; classes, lists and mappings as people read them."""
        values: dict[str, Any] = {}
        for name, option in self.experiment.varied(self.profile_name).items():
            if option == "config":
                values[name] = entry.config
            elif option in entry.options:
                value = entry.options[option]
                values[name] = value if isinstance(value, int | float) or value is None else shown(value)
        return values

    def _point(self, variant: Variant, stored: StoredEvaluations) -> Point:
        """Gather what is known of a run: what it logged, what its evaluations found, and what is to be said of it."""
        entry, result = variant.entry, variant.status.result
        values = self._values(entry)
        measured: dict[str, float] = {}
        facts: dict[str, Any] = {}
        losses: list[float] = []
        if variant.post_hoc is None:
            measured, facts = dict(result["metrics"]), read_json(Path(entry.run_dir) / "summary.json") or {}
            measured |= {f"cost/{name}": value for name, value in result.get("cost", {}).items()}
            measured |= _epochs_means(Path(entry.run_dir))
            losses = logged_values(Path(entry.run_dir), "train/loss")
        else:
            values[POST_HOC] = variant.post_hoc.rectifier
        for name, options in self.profile.evaluations.items():
            path = variant.directory / "evaluation" / f"{name}.json"
            found = stored.metrics(path, name, options, checkpoint=variant.checkpoint, seed=entry.seed)
            measured |= {f"{name}/{metric}": value for metric, value in found.items()}
        setting = ", ".join(f"{name}={shown(value)}" for name, value in values.items())
        return Point(
            id=entry.id + ("" if variant.post_hoc is None else f",{POST_HOC}={variant.post_hoc.rectifier}"),
            label=self.experiment.label(values) or setting or self.name,
            values=values,
            seed=entry.seed,
            run_dir=str(variant.directory.relative_to(self.folder.absolute())),
            seconds=result["seconds"],
            metrics=measured,
            remarks=[asdict(remark) for remark in (*start_remarks(facts), *remarks(measured, losses))],
        )

    def write(self) -> Findings:
        """Write ``experiment.json``: all that reports need, of what is finished."""
        loaded = self.load()
        variants = list(self.finished(loaded))
        results = [variant.status.result for variant in variants]
        stored = StoredEvaluations(self.profile.datasets, self.datasets)
        points = [self._point(variant, stored) for variant in variants]
        findings = Findings(self, count(loaded.statuses.values()), grouped(points))
        content = {
            "experiment": self.name,
            "number": self.name.partition("_")[0],
            "title": self.experiment.title,
            "question": self.experiment.question.strip(),
            "profile": self.profile_name,
            "commit": ", ".join(sorted({result.get("commit", "unknown") for result in results})),
            "report_commit": commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "hardware": ", ".join(dict.fromkeys(result["hardware"] for result in results)),
            "command": self.command,
            "versions": results[0]["versions"] if results else {},
            "varied": list(self.experiment.varied(self.profile_name)),
            "points": [asdict(point) for point in points],
            "published": [asdict(row) for row in findings.published],
            "columns": [asdict(column) for column in self.experiment.columns],
            "figures": [_said(figure) for figure in self.experiment.figures],
            "conditions": [asdict(verdict) for verdict in findings.verdicts],
        }
        write_text(self.folder / FILE, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return findings


@dataclass(frozen=True)
class Findings:
    """What an experiment has found so far.

    Attributes:
        study: which.
        state: how many of the runs are finished, running and so on.
        groups: the finished points, those together that differ in their seeds alone.
    """

    study: Study
    state: str
    groups: list[Group]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """Whether the conditions of the profile hold."""
        conditions = self.study.experiment.conditions
        return [judge(one, self.groups) for one in conditions if self._is_of(one.profiles)]

    @property
    def published(self) -> list[Published]:
        """The published results that stand beside this profile."""
        return [row for row in self.study.experiment.published if self._is_of(row.profiles)]

    def _is_of(self, profiles: list[str]) -> bool:
        return not profiles or self.study.profile_name in profiles


def _epochs_means(run_dir: Path) -> dict[str, float]:
    """Give the mean over all epochs of accuracies in training: the higher, the faster a run has learnt."""
    logged = {name: logged_values(run_dir, name) for name in LEARNT}
    return {f"epochs_mean/{name}": fmean(values) for name, values in logged.items() if values}


def _said(figure: Figure) -> dict[str, Any]:
    """Give of a figure what its file says."""
    return {name: value for name, value in asdict(figure).items() if value is not None and value is not False}
