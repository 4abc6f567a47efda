"""Training, interruptions and preflight on a real SLURM of two nodes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from cluster import Cluster, wait_for
from jobs import BATCHES_PER_EPOCH, STEPS, Job, Run, assert_equal_bit_for_bit

pytestmark = pytest.mark.timeout(500)
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1")
MIDDLE = BATCHES_PER_EPOCH + 4  # in the second epoch, away from its checkpoints
END = 2 * BATCHES_PER_EPOCH  # of the second epoch

# What a job of two tasks on one node is started with, by mistake, and what it is told.
WRONG = {
    "two tasks, one device": (["srun"], [], "`--trainer.devices 1`, but SLURM started 2 task(s) per node"),
    "no srun": ([], ["--trainer.devices=2"], "was started once, without srun"),
    "interactive": (["srun", "--job-name=bash"], ["--trainer.devices=2"], "each of the 2 tasks would train alone"),
    "two nodes wanted": (["srun"], ["--trainer.devices=2", "--trainer.num_nodes=2"], "started the program on 1 node"),
}


class Submitted(NamedTuple):
    run: Run
    job: Job


def submit(cluster: Cluster, folder: Path, name: str, pace: float, *options: str, epoch: int | None = 1) -> Submitted:
    """Submit a run that takes its time in its second epoch."""
    run = Run(folder, name, pace, epoch)
    nodes = f"--trainer.num_nodes={2 if TWO_NODES[0] in options else 1}"
    return Submitted(run, Job(cluster, folder, name, run.by("srun", options=(nodes,)), *options))


# What can run side by side is submitted early: each start takes a while.


@pytest.fixture(scope="session")
def limited(cluster: Cluster, folder: Path) -> Submitted:
    """A run that takes longer than its job may, in an array; the signal comes up to a minute before it is due."""
    options = ("--array=7", "--time=2", "--signal=USR1@15", "--nodelist=node1")
    return submit(cluster, folder, "limited", 2.0, *options, epoch=None)


@pytest.fixture(scope="session")
def requeued(cluster: Cluster, folder: Path) -> Submitted:
    """A run on two nodes that takes its time."""
    return submit(cluster, folder, "requeued", 0.5, *TWO_NODES)


@pytest.fixture(scope="session")
def two(cluster: Cluster, folder: Path) -> Submitted:
    """A run on two nodes, one process on each, that nobody stops."""
    return submit(cluster, folder, "two", 0.0, *TWO_NODES)


@pytest.fixture(scope="session")
def one(cluster: Cluster, folder: Path) -> Submitted:
    """The same in one process."""
    return submit(cluster, folder, "one", 0.0)


@pytest.fixture(scope="session")
def torchrun(cluster: Cluster, folder: Path) -> Submitted:
    """The same in two processes that torchrun starts in a job."""
    run = Run(folder, "torchrun")
    python, *program = run.command
    run.command = [*program, "--trainer.devices=2"]
    command = run.by(python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    return Submitted(run, Job(cluster, folder, "torchrun", command, "--ntasks-per-node=1", "--nodelist=node1"))


@pytest.fixture(scope="session")
def wrong(cluster: Cluster, folder: Path) -> Submitted:
    """A job that starts the program in the wrong ways, one after the other."""
    run = Run(folder, "wrong")
    lines = [
        f"echo '== {name}'\n{run.by(*launcher, options=tuple(options))}\necho exit code $?"
        for name, (launcher, options, _) in WRONG.items()
    ]
    return Submitted(run, Job(cluster, folder, "wrong", "\n".join(lines), "--ntasks-per-node=2", "--nodelist=node1"))


def finished(submitted: Submitted) -> Run:
    assert submitted.job.wait()["Restarts"] == "0"
    return submitted.run


def test_requeued_in_mid_training_it_goes_on_exactly(
    cluster: Cluster, folder: Path, limited: Submitted, requeued: Submitted, two: Submitted, one: Submitted
) -> None:
    requeued.run.wait_for_step(MIDDLE)
    cluster.command("scontrol", "requeue", requeued.job.number)
    assert requeued.job.wait()["Restarts"] == "1"
    first, second = requeued.run.starts
    assert first == 0
    assert MIDDLE <= second < END
    assert_equal_bit_for_bit(requeued.run, finished(two))


def test_two_nodes_end_with_the_numbers_of_one_process(
    cluster: Cluster, folder: Path, one: Submitted, two: Submitted
) -> None:
    alone, together = finished(one), finished(two)
    assert two.job.shown()["NodeList"] == "node[1-2]"
    expected, found = (run.checkpoint["state_dict"] for run in (alone, together))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9, msg=lambda text, at=name: f"{at}: {text}")
    assert together.metrics == pytest.approx(alone.metrics, rel=1e-6)


@pytest.mark.usefixtures("torchrun", "wrong")
def test_a_node_set_down_loses_nothing(cluster: Cluster, folder: Path, one: Submitted) -> None:
    run, job = submit(cluster, folder, "down", 0.5)
    run.wait_for_step(MIDDLE)
    assert job.shown()["NodeList"] == "node2"
    cluster.command("scontrol", "update", "NodeName=node2", "State=DOWN", "Reason=test")
    try:
        shown = job.wait()
    finally:
        cluster.command("scontrol", "update", "NodeName=node2", "State=RESUME")
    assert (shown["NodeList"], shown["Restarts"]) == ("node1", "1")
    assert MIDDLE <= run.starts[-1] < END
    assert_equal_bit_for_bit(run, finished(one))


def test_a_node_that_loses_its_power_costs_what_came_after_the_last_checkpoint(
    cluster: Cluster, folder: Path, one: Submitted
) -> None:
    run, job = submit(cluster, folder, "power", 0.5)
    run.wait_for_step(MIDDLE)
    assert job.shown()["NodeList"] == "node2"
    cluster.power_off("node2")
    try:
        cluster.wait_for_state("node2", "down")
        shown = job.wait()
    finally:
        cluster.return_node("node2")
    assert (shown["NodeList"], shown["Restarts"]) == ("node1", "1")
    assert run.starts == [0, BATCHES_PER_EPOCH]
    assert_equal_bit_for_bit(run, finished(one))


def test_a_run_on_a_node_that_slurm_lost_sight_of_is_not_started_twice(
    cluster: Cluster, folder: Path, one: Submitted
) -> None:
    run, job = submit(cluster, folder, "lost", 1.5, epoch=None)
    run.wait_for_step(1)
    assert job.shown()["NodeList"] == "node2"
    cluster.cut_off("node2")
    try:
        cluster.wait_for_state("node2", "down")
        shown = job.wait("FAILED")
        wait_for((run.path / "result.json").exists, 200, "the end of the run that nobody sees")
    finally:
        cluster.return_node("node2")
    assert (shown["NodeList"], shown["Restarts"], shown["ExitCode"]) == ("node1", "1", "1:0")
    assert f"The run {run.path} is in progress" in job.output.read_text()
    assert run.starts == [0]
    assert_equal_bit_for_bit(run, finished(one))


def test_a_process_killed_outright_fails_its_job_and_the_next_one_goes_on(
    cluster: Cluster, folder: Path, one: Submitted
) -> None:
    run, job = submit(cluster, folder, "killed", 0.3)
    run.wait_for_step(MIDDLE)
    run.kill()
    assert job.wait("FAILED")["ExitCode"] == "137:0"
    Job(cluster, folder, "killed-again", run.by("srun")).wait()
    assert run.starts == [0, BATCHES_PER_EPOCH]
    assert_equal_bit_for_bit(run, finished(one))


def test_torchrun_in_a_job_is_taken_for_torchrun(
    cluster: Cluster, folder: Path, torchrun: Submitted, two: Submitted
) -> None:
    assert_equal_bit_for_bit(finished(torchrun), finished(two))


def test_wrong_launches_are_refused_before_they_hang(cluster: Cluster, folder: Path, wrong: Submitted) -> None:
    run, job = wrong
    job.wait()
    sections = dict(part.split("\n", 1) for part in job.output.read_text().split("== ")[1:])
    assert sections.keys() == WRONG.keys()
    for name, (_, _, message) in WRONG.items():
        assert message in sections[name]
        assert "exit code 1" in sections[name]
    assert not run.path.exists()


def test_a_time_limit_in_mid_training_costs_nothing(
    cluster: Cluster, folder: Path, limited: Submitted, one: Submitted
) -> None:
    run, job = limited
    # Where the signal comes too late to stop it, the last start may end after its time.
    restarts = int(job.wait("COMPLETED", "TIMEOUT", seconds=400)["Restarts"])
    assert restarts >= 1
    assert len(run.starts) == restarts + 1
    assert all(0 < step < STEPS for step in run.starts[1:])
    assert_equal_bit_for_bit(run, finished(one))
