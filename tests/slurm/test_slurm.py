"""Training, interruptions and preflight on a real SLURM of two nodes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from cluster import Cluster, wait_for
from jobs import BATCHES_PER_EPOCH, PROGRAM, STEPS, Job, Run, assert_equal_bit_for_bit, leaves

pytestmark = pytest.mark.timeout(400)
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1")
MIDDLE = BATCHES_PER_EPOCH + 4  # in the second epoch, away from its checkpoints


class Submitted(NamedTuple):
    run: Run
    job: Job


@pytest.fixture(scope="session")
def submitted(cluster: Cluster, folder: Path) -> dict[str, Submitted]:
    """Start at once all that can run side by side."""

    def submit(name: str, pace: float, nodes: int, *options: str) -> Submitted:
        run = Run(folder, name, pace)
        return Submitted(run, Job(cluster, folder, name, run.by_srun(f"--trainer.num_nodes={nodes}"), *options))

    return {
        # The signal comes up to a minute before it is asked for, and a limit is a minute at least.
        "limited": submit("limited", 1.5, 1, "--time=1", "--signal=USR1@5", "--nodelist=node1"),
        "requeued": submit("requeued", 0.5, 2, *TWO_NODES),
        "two": submit("two", 0, 2, *TWO_NODES),
        "one": submit("one", 0, 1),
    }


@pytest.fixture(scope="session")
def one(submitted: dict[str, Submitted]) -> Run:
    """The run of one process that was never stopped."""
    run, job = submitted["one"]
    assert job.wait()["Restarts"] == "0"
    return run


@pytest.fixture(scope="session")
def two(submitted: dict[str, Submitted]) -> Run:
    """The same on two nodes, one process on each."""
    run, job = submitted["two"]
    shown = job.wait()
    assert (shown["Restarts"], shown["NodeList"]) == ("0", "node[1-2]")
    return run


def test_requeued_in_mid_training_it_goes_on_exactly(
    cluster: Cluster, folder: Path, submitted: dict[str, Submitted], two: Run
) -> None:
    run, job = submitted["requeued"]
    run.wait_for_step(MIDDLE)
    cluster.command("scontrol", "requeue", job.number)
    assert job.wait()["Restarts"] == "1"
    first, second = run.starts
    assert first == 0
    assert MIDDLE <= second <= MIDDLE + 4  # not from the last epoch's end
    assert_equal_bit_for_bit(run, two)


def test_two_nodes_end_with_the_numbers_of_one_process(cluster: Cluster, folder: Path, one: Run, two: Run) -> None:
    alone, together = (leaves(run.checkpoint["state_dict"]) for run in (one, two))
    assert alone.keys() == together.keys()
    for name, expected in alone.items():
        torch.testing.assert_close(together[name], expected, rtol=1e-7, atol=1e-9, msg=name)
    assert two.metrics.keys() == one.metrics.keys()
    assert two.metrics == pytest.approx(one.metrics, rel=1e-6)


def test_a_node_set_down_loses_nothing(cluster: Cluster, folder: Path, one: Run) -> None:
    run = Run(folder, "down", 0.5)
    job = Job(cluster, folder, "down", run.by_srun())
    run.wait_for_step(MIDDLE)
    assert job.shown()["NodeList"] == "node2"
    cluster.command("scontrol", "update", "NodeName=node2", "State=DOWN", "Reason=test")
    try:
        shown = job.wait()
    finally:
        cluster.command("scontrol", "update", "NodeName=node2", "State=RESUME")
    assert (shown["NodeList"], shown["Restarts"]) == ("node1", "1")
    assert run.starts[-1] >= BATCHES_PER_EPOCH
    assert_equal_bit_for_bit(run, one)


def test_a_node_that_loses_its_power_costs_what_came_after_the_last_checkpoint(
    cluster: Cluster, folder: Path, one: Run
) -> None:
    run = Run(folder, "power", 0.5)
    job = Job(cluster, folder, "power", run.by_srun())
    run.wait_for_step(MIDDLE)
    assert job.shown()["NodeList"] == "node2"
    cluster.kill_node("node2")
    try:
        wait_for(lambda: cluster.states()["node2"].startswith("down"), 60, "SLURM notices that node2 is gone")
        shown = job.wait()
    finally:
        cluster.start_node("node2")
        cluster.command("scontrol", "update", "NodeName=node2", "State=RESUME")
    assert (shown["NodeList"], shown["Restarts"]) == ("node1", "1")
    assert run.starts == [0, BATCHES_PER_EPOCH]
    assert_equal_bit_for_bit(run, one)


def test_processes_killed_outright_fail_the_job_and_the_next_one_goes_on(
    cluster: Cluster, folder: Path, one: Run
) -> None:
    run = Run(folder, "killed", 0.3)
    first = Job(cluster, folder, "killed", run.by_srun())
    run.wait_for_step(MIDDLE)
    cluster.command("scancel", "--signal=KILL", first.number)
    shown = first.wait("FAILED")
    assert shown["ExitCode"] == f"{128 + signal.SIGKILL}:0"
    Job(cluster, folder, "killed-again", run.by_srun()).wait()
    assert run.starts == [0, BATCHES_PER_EPOCH]
    assert_equal_bit_for_bit(run, one)


WRONG = {
    "two tasks, one device": (["srun"], [], "`--trainer.devices 1`, but SLURM started 2 task(s) per node"),
    "one task of two": (["srun", "-n1"], ["--trainer.devices=2"], "SLURM started 1 task(s) per node"),
    "no srun": ([], ["--trainer.devices=2"], "was started once, without srun"),
    "two nodes wanted": (
        ["srun"],
        ["--trainer.devices=2", "--trainer.num_nodes=2"],
        "SLURM started the program on 1 node(s)",
    ),
    "interactive": (["srun", "--job-name=bash"], ["--trainer.devices=2"], "each of the 2 tasks would train alone"),
    "plain --ntasks": (
        ["env", "-u", "SLURM_NTASKS_PER_NODE", "srun", "-n2"],
        ["--trainer.devices=2"],
        "without `--ntasks-per-node`",
    ),
}


def test_wrong_launches_are_refused_before_they_hang(cluster: Cluster, folder: Path) -> None:
    lines = []
    for name, (launcher, options, _) in WRONG.items():
        command = " ".join([*launcher, *PROGRAM, "fit", f"--config={folder}/tiny.yaml", *options])
        lines.append(f"echo '== {name}'\n{command} --run.dir={folder}/wrong\necho exit code $?")
    Run(folder, "wrong")  # writes the configuration
    job = Job(cluster, folder, "wrong", "\n".join(lines), "--ntasks-per-node=2")
    job.wait()
    sections = dict(part.split("\n", 1) for part in job.output.read_text().split("== ")[1:])
    assert sections.keys() == WRONG.keys()
    for name, (_, _, message) in WRONG.items():
        assert message in sections[name]
        assert "exit code 1" in sections[name]
    assert not (folder / "wrong").exists()


def test_a_time_limit_in_mid_training_costs_nothing(
    cluster: Cluster, folder: Path, submitted: dict[str, Submitted], one: Run
) -> None:
    run, job = submitted["limited"]
    shown = job.wait(seconds=300)
    assert int(shown["Restarts"]) >= 1
    assert len(run.starts) == int(shown["Restarts"]) + 1
    assert all(0 < step < STEPS for step in run.starts[1:])
    assert_equal_bit_for_bit(run, one)
