"""The experiment file: a question, the runs and evaluations that answer it, and what is published beside.

.. code-block:: yaml

    title: How sparse, and at what cost?
    question: Does ℓ0 follow μ?
    columns:                          # of the tables; `%` shows a share in percent
      - {metric: val/probe_encoder/top1, label: encoder, unit: "%"}
    published:                        # † read off a plot or from notes on the paper, ‡ calculated
      - {label: ResNet-18, values: {mu: 0.0}, metrics: {val/sparsity/l0: 0.736}, source: Table 1, mark: †}
    figures:
      - {kind: accuracy_over_l0, metric: val/probe_encoder/top1}
    conditions:                       # see rectified_lpjepa.experiment.conditions
      - {text: ℓ0 rises with μ, metric: val/sparsity/l0, trend: increasing, over: mu}
    profiles:
      smoke:                          # config, options, points, grid, seeds, resources as in a sweep file
        config: ../configs/digits.yaml
        grid: {model.objective.init_args.target.mu: [0.0, -1.0]}
        evaluations: {sparsity: {}, knn: {k: 10}}

Each profile is a sweep, in the folder ``<root>/experiments/<name of the file>/<profile>``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rectified_lpjepa.commands import nearest
from rectified_lpjepa.experiment.conditions import Condition
from rectified_lpjepa.experiment.groups import matches
from rectified_lpjepa.experiment.presentation import Column, Figure, Label, Published
from rectified_lpjepa.recipes import EXPERIMENTS
from rectified_lpjepa.sweep.file import Resources, Sweep
from rectified_lpjepa.sweep.manifest import short_names
from rectified_lpjepa.sweep.yaml_file import build, read_mapping

PROFILES = ("smoke", "cpu", "paper")
FOLDER = Path("experiments")  # in the working directory
POST_HOC = "post_hoc"


@dataclass(frozen=True)
class PostHoc:
    """Runs that are evaluated once more, with another rectifier than the one that they were trained with.

    Args:
        where: which runs, by short name.
        rectifier: that follows the projector in the evaluation.
    """

    where: dict[str, Any]
    rectifier: str = "relu"


@dataclass(frozen=True)
class Profile:
    """How large an experiment is run: a sweep, and the evaluations of its runs.

    Args:
        config: base configuration: a path, relative to the file, or the name of a recipe.
        options: values by dotted option of ``fit``, for all points.
        grid: values to combine by dotted option.
        points: settings to combine with the grid.
        seeds: of the runs; by default the configuration's own.
        resources: what a point needs of a cluster.
        evaluations: options by name of the evaluation.
        post_hoc: runs that are evaluated with another rectifier, too.
        datasets: small data sets that are made without a download, and that the evaluations call by these names.
    """

    config: str
    options: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    points: list[dict[str, Any]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    resources: Resources = field(default_factory=Resources)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    post_hoc: list[PostHoc] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Experiment:
    """The content of an experiment file, see the module's text.

    Args:
        title: of the report.
        question: that the experiment asks.
        profiles: ``smoke``, ``cpu`` and ``paper``.
        columns: of the tables.
        labels: of the points.
        published: what stands beside.
        figures: of the report.
        conditions: what is expected.

    Raises:
        ValueError: a profile is none of these, or a setting speaks of what no profile varies.
    """

    title: str
    question: str
    profiles: dict[str, Profile]
    columns: list[Column]
    labels: list[Label] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)

    def __post_init__(self) -> None:
        named = [*self.profiles, *(name for part in self.conditions for name in part.profiles)]
        named += [name for part in self.published for name in part.profiles]
        for name in named:
            if name not in PROFILES:
                raise ValueError(f"there is no profile {name!r}; known are {', '.join(PROFILES)}.")
        known = {name for profile in self.profiles for name in self.varied(profile)}
        settings = [
            *(part.where for part in self.labels),
            *(part.values for part in self.published),
            *(part.names for part in self.figures),
            *(part.names for part in self.conditions),
            *(part.where for profile in self.profiles.values() for part in profile.post_hoc),
        ]
        for name in (name for setting in settings for name in setting):
            if name not in known:
                raise ValueError(
                    f"no profile varies {name!r}; what varies is {', '.join(sorted(known)) or 'nothing'}."
                    f"{nearest(name, known)}"
                )

    def sweep(self, name: str, profile: str, root: str = "runs", given: Mapping[str, Any] | None = None) -> Sweep:
        """Give the sweep of a profile.

        Args:
            name: of the experiment.
            profile: its name.
            root: folder of all runs.
            given: further options of ``fit`` for all points.

        Raises:
            ValueError: there is no such profile, or a given option is one that the profile sets.
        """
        if profile not in self.profiles:
            known = ", ".join(self.profiles)
            raise ValueError(f"{name} has no profile {profile!r}; it has {known}.{nearest(profile, self.profiles)}")
        settings = self.profiles[profile]
        given = given or {}
        own = {*settings.options, *settings.grid, *(option for point in settings.points for option in point)}
        both = sorted(own & given.keys())
        if both:
            raise ValueError(
                f"{', '.join(both)} is set by the profile {profile} of {name}. HINT: copy the experiment's file, "
                "change the copy, and name it in place of the number."
            )
        return Sweep(
            name=profile,
            config=settings.config,
            options={**given, **settings.options},
            grid=settings.grid,
            points=settings.points,
            seeds=settings.seeds,
            root=str(Path(root) / "experiments" / name),
            # On a cluster `paper` would be the name of every experiment's jobs; the last of two options counts.
            resources=replace(settings.resources, sbatch=[f"--job-name={name}-{profile}", *settings.resources.sbatch]),
        )

    def varied(self, profile: str) -> dict[str, str]:
        """Give the option behind each short name of what varies in a profile."""
        settings = self.profiles[profile]
        listed = (option for point in settings.points for option in point if option != "seeds")
        options = dict.fromkeys([*listed, *settings.grid])
        names = {short: option for option, short in short_names(list(options)).items()}
        return names | ({POST_HOC: POST_HOC} if settings.post_hoc else {})

    def label(self, values: Mapping[str, Any]) -> str | None:
        """Give what people call a setting, if they call it anything."""
        return next((part.label for part in reversed(self.labels) if matches(values, part.where)), None)


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key is unknown or missing, or a value is not of its type; the message names file and key.
    """
    content = read_mapping(path)
    try:
        experiment: Experiment = build(Experiment, content)
        for name in experiment.profiles:
            experiment.sweep(path.stem, name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return experiment


def find(name: str, folder: Path | None = None) -> Path:
    """Find an experiment's file.

    Args:
        name: its number (``2`` or ``02``), its whole name (``02_sparsity``), or a path.
        folder: where the experiments lie, see :func:`listed`.

    Raises:
        ValueError: there is none of this name, or several of this number; the message lists them.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    files = listed(folder)
    number = f"{int(name):02d}" if re.fullmatch(r"[0-9]+", name) else None
    found = [file for file in files if file.stem == name or file.stem.partition("_")[0] == number]
    if len(found) > 1:
        names = " and ".join(file.stem for file in found)
        raise ValueError(f"The number {name} is that of {names}. HINT: give a whole name.")
    if found:
        return found[0]
    known = [file.stem for file in files]
    raise ValueError(f"There is no experiment {name!r}. There are {', '.join(known) or 'none'}.{nearest(name, known)}")


def listed(folder: Path | None = None) -> list[Path]:
    """List the files of the experiments, by number.

    Args:
        folder: where they lie; by default ``experiments`` in the working directory, or where there are none, with the
            package.
    """
    if folder is None:
        return listed(FOLDER) or listed(EXPERIMENTS)
    return sorted(folder.glob("[0-9][0-9]_*.yaml"))
