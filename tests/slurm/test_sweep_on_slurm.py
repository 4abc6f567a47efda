"""A sweep as one job array on a real SLURM."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cluster import Cluster, wait_for
from jobs import HERE, PROGRAM, Run

pytestmark = pytest.mark.timeout(400)

FILE = """
name: four
config: tiny.yaml
root: {folder}/sweeps
options: {{trainer.max_epochs: 2, trainer.limit_train_batches: 5}}
grid: {{model.objective.init_args.target.mu: [0.0, -1.0]}}
seeds: [3, 4]
resources: {{time: 8, max_parallel: 2, cpus_per_task: 1}}
"""


def test_a_sweep_of_four_points_runs_as_one_array_and_leaves_alone_what_is_done(cluster: Cluster, folder: Path) -> None:
    Run(folder, "sweep")  # writes the base configuration
    file = folder / "four.yaml"
    file.write_text(FILE.format(folder=folder))

    def sweep(command: str, *options: str) -> str:
        return cluster.command(*PROGRAM, "sweep", command, str(file), *options, PYTHONPATH=str(HERE.parents[1]))

    assert "submitted 4 points as job" in sweep("run", "--launcher", "slurm")
    again = sweep("run", "--launcher", "slurm")
    assert "nothing to submit" in again  # all of them are queued or running
    queue = ("squeue", "--noheader", "--array", "--name=four", "--format=%T")
    seen = []

    def is_done() -> bool:
        seen.append(cluster.command(*queue).split().count("RUNNING"))
        return not cluster.command(*queue).strip()

    wait_for(is_done, 300, "the array's end")
    assert max(seen) == 2  # as many at a time as were asked for
    assert "4 points: 4 finished" in sweep("status")
    assert "nothing to submit" in sweep("run", "--launcher", "slurm")

    sweep("collect", "--out", str(folder))
    with (folder / "results.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    points = {(float(row["model.objective.init_args.target.mu"]), int(row["seed"])) for row in rows}
    assert points == {(mu, seed) for mu in (0.0, -1.0) for seed in (3, 4)}
    for row in rows:
        result = json.loads((Path(row["run_dir"]) / "result.json").read_text())
        assert (row["state"], row["steps"], row["restarts"]) == ("finished", "10", "0")
        assert float(row["val/sparsity/l0"]) == result["metrics"]["val/sparsity/l0"]
