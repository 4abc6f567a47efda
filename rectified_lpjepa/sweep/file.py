"""The sweep file: a base configuration, the options that vary, seeds, and what a point needs of a cluster.

.. code-block:: yaml

    name: digits_mu                 # the sweep's folder is <root>/<name>
    config: ../digits.yaml          # base configuration of `fit`: a path from this file, or a recipe's name (digits)
    options:                        # of all points, unless `points` or `grid` say otherwise
      trainer.max_epochs: 6
    points:                         # options that go together; also another `config`, and `seeds` of its own
      - {model.objective.init_args.target.p: 2.0}
      - {model.objective.init_args.target.p: 1.0, model.optimizer.lr: 0.002}
    grid:                           # every combination of these values
      model.objective.init_args.target.mu: [0.0, -1.0]
    seeds: [0, 1, 2]                # by default the configuration's own
    resources: {gpus_per_node: 1, cpus_per_task: 8, time: "02:00:00", max_parallel: 8}

Each of ``points`` is combined with every combination of ``grid``, and each of these with every seed: above, 2 · 2 · 3 =
12 runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from rectified_lpjepa.identity import is_identity_option, leaves
from rectified_lpjepa.recipes import find_config
from rectified_lpjepa.sweep.yaml_file import build, read_mapping

_RESERVED = {
    "seed_everything": "set `seeds`",
    "trainer.devices": "set `resources.gpus_per_node` or `resources.processes_per_node`",
    "trainer.num_nodes": "set `resources.nodes`",
}


@dataclass(frozen=True)
class Resources:
    """What one point needs of a cluster, and how many points may run at a time.

    Args:
        nodes: number of nodes of one point.
        gpus_per_node: GPUs on each node; 0 computes on the CPU.
        processes_per_node: processes on each node; by default one for each GPU, or one.
        cpus_per_task: cores, and threads, of one process; by default what the cluster gives.
        time: limit as SLURM reads it, "hours:minutes:seconds" or a number of minutes.
        partition: the cluster's partition.
        sbatch: further options of sbatch, such as ``--account=vision``, one a line.
        max_parallel: points that run at a time.
        signal_seconds: how long before its time limit a point saves and asks to be queued again.
    """

    nodes: int = 1
    gpus_per_node: int = 0
    processes_per_node: int | None = None
    cpus_per_task: int | None = None
    time: str | int | None = None
    partition: str | None = None
    sbatch: list[str] = field(default_factory=list)
    max_parallel: int | None = None
    signal_seconds: int = 120

    def __post_init__(self) -> None:
        for name in ("nodes", "processes_per_node", "cpus_per_task", "max_parallel", "signal_seconds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"resources.{name} must be at least 1, got {value}.")
        if self.gpus_per_node < 0:
            raise ValueError(f"resources.gpus_per_node must be 0 or more, got {self.gpus_per_node}.")
        for line in self.sbatch:
            if not line.startswith("-"):
                raise ValueError(f"resources.sbatch holds options such as `--account=vision`, got {line!r}.")

    @property
    def processes(self) -> int:
        """Processes on each node."""
        return self.processes_per_node or self.gpus_per_node or 1


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        config: its base configuration.
        options: values by dotted option of ``fit``, without the seed, in the order of the command line.
        varied: which of the options differ between points.
        seed: of the run.
    """

    config: Path
    options: dict[str, Any]
    varied: tuple[str, ...]
    seed: int

    def key(self, configuration: Mapping[str, Any]) -> str:
        """Hash what decides the numbers of the run: eight hexadecimal digits.

        Runtime keys (devices, workers, paths) count only where they vary, so that they may change from start to start.

        Args:
            configuration: the content of ``config``.
        """
        base = {name: value for name, value in leaves(configuration) if is_identity_option(name)}
        base.pop("seed_everything", None)
        given = {name: value for name, value in self.options.items() if name in self.varied or is_identity_option(name)}
        told = json.dumps(_plain_numbers([base, given, self.seed]), sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:8]


def _plain_numbers(value: Any) -> Any:
    """Make 1.0 and 1 the same."""
    if isinstance(value, Mapping):
        return {name: _plain_numbers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep file, see the module's text.

    Args:
        name: of the sweep, its folder and its jobs.
        config: base configuration: a path, relative to the file, or the name of a recipe.
        options: values by dotted option of ``fit``, for all points.
        grid: values to combine by dotted option.
        points: settings to combine with the grid.
        seeds: of the runs; by default the configuration's own.
        root: folder that holds the sweep's folder.
        resources: what a point needs of a cluster.
    """

    name: str
    config: str
    options: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    points: list[dict[str, Any]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    root: str = "runs"
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"name must be letters, digits, '_', '-' and '.', got {self.name!r}.")
        for values in (self.options, self.grid, *self.points):
            for option in values:
                _check_option(option)
        for key, meant in (("config", "configuration"), ("seeds", "seeds")):
            if key in self.options or (key == "seeds" and key in self.grid):
                raise ValueError(f"the {meant} of all points is the file's own key `{key}`.")
        for point in self.points:
            seeds = point.get("seeds", [0])
            if not (isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)):
                raise ValueError(f"points: the seeds of a point must be a list of whole numbers, got {seeds!r}.")
        for option, choices in self.grid.items():
            if not choices:
                raise ValueError(f"grid.{option} has no values. HINT: leave it out.")
        both = sorted(self.grid.keys() & {option for point in self.points for option in point})
        if both:
            raise ValueError(f"Both grid and points set {', '.join(both)}, and each point takes all of the grid.")

    @property
    def varied(self) -> tuple[str, ...]:
        """The options that differ between points, in the order of the file."""
        listed = (option for point in self.points for option in point if option != "seeds")
        return tuple(dict.fromkeys([*listed, *self.grid]))

    def expand(self, folder: Path) -> list[Point]:
        """List the points: those of ``points``, each with all combinations of the grid, each with all seeds.

        Args:
            folder: where the sweep file lies.

        Raises:
            FileNotFoundError: there is no such configuration.
        """
        found = []
        for listed, combination in product(self.points or [{}], product(*self.grid.values())):
            options = self.options | listed | dict(zip(self.grid, combination, strict=True))
            config = find_config(str(options.pop("config", self.config)), folder)
            seeds = options.pop("seeds", self.seeds) or [int(read_mapping(config).get("seed_everything") or 0)]
            found += [Point(config, options, tuple(o for o in self.varied if o in options), seed) for seed in seeds]
        return found


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key is unknown or missing, or a value is not of its type; the message names file and key.
    """
    content = read_mapping(path)
    try:
        sweep: Sweep = build(Sweep, content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return sweep


def _check_option(option: str) -> None:
    if option in _RESERVED:
        raise ValueError(f"A point's {option} is not an option of a sweep. HINT: {_RESERVED[option]}.")
    if option.partition(".")[0] == "run":
        raise ValueError(f"{option}: the sweep names the run directories itself. HINT: leave it out.")
    if not re.fullmatch(r"[A-Za-z]\w*(\.\w+)*", option):
        raise ValueError(f"{option!r} is not an option of `fit`, such as model.optimizer.lr (without dashes).")
