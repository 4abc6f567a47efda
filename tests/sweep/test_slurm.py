"""SLURM: the job script, and what is submitted, with a fake ``sbatch`` and ``squeue`` that keep a queue in a file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sweeps import MU, finish, planned, write_sweep

from rectified_lpjepa.sweep.command import sweep
from rectified_lpjepa.sweep.file import Resources
from rectified_lpjepa.sweep.manifest import Folder, read_manifest
from rectified_lpjepa.sweep.slurm import is_edited, job_script, queue, sbatch_command

SCRIPT = """\
#!/bin/bash
# One task of the job array trains one point: the line of the manifest that has the task's number.
# Yours to edit: a changed script is kept, and written anew from the sweep file once it is deleted.
# sha256 as written: <digest>
#SBATCH --requeue
#SBATCH --job-name=many
#SBATCH --chdir=/home/me
#SBATCH --output=/runs/many/logs/%A_%a.out
#SBATCH --open-mode=append
#SBATCH --signal=USR1@300
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=12
#SBATCH --time=12:00:00
#SBATCH --partition=gpu
#SBATCH --account=vision
#SBATCH --exclude=node7

export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
srun --wait=120 <python> -m rectified_lpjepa sweep point \\
    /runs/many/manifest.jsonl "$SLURM_ARRAY_TASK_ID" \\
    --trainer.devices=4 --trainer.num_nodes=2
code=$?
# `sweep status` tells by this line a point that failed from one that was stopped.
[ "$code" -eq 0 ] || echo "exit code $code"
exit "$code"
"""
SBATCH = """#!/bin/sh
echo "$@" >> {calls}
if [ -f {refusal} ]; then echo "sbatch: error: invalid partition specified: x" >&2; exit 1; fi
echo "$((100 + $(wc -l < {calls})));here"
"""
SQUEUE = """#!/bin/sh
cat {jobs}
"""


class Cluster:
    """A queue that the test fills."""

    def __init__(self, folder: Path) -> None:
        self.calls, self.jobs, self.refusal = folder / "calls", folder / "jobs", folder / "refusal"
        self.jobs.write_text("")
        for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
            (folder / name).write_text(text.format(calls=self.calls, jobs=self.jobs, refusal=self.refusal))
            (folder / name).chmod(0o755)

    @property
    def submitted(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return Cluster(programs)


def run(file: Path, *options: str) -> None:
    sweep(["run", str(file), "--launcher", "slurm", *options])


def test_the_script_says_all_that_the_file_asks_for() -> None:
    resources = Resources(
        nodes=2, gpus_per_node=4, cpus_per_task=12, time="12:00:00", partition="gpu", signal_seconds=300,
        sbatch=["--account=vision", "--exclude=node7"],
    )  # fmt: skip
    script = job_script("many", resources, Folder(Path("/runs/many")), Path("/home/me"))
    shown = re.sub(r"(?<=written: )\w+", "<digest>", script.replace(sys.executable, "<python>"))
    assert shown == SCRIPT
    assert not is_edited(script)
    assert is_edited(script.replace("=12:00:00", "=24:00:00"))
    assert is_edited(script.replace("#!/bin/bash", "#!/bin/bash -l"))
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_by_default_the_script_asks_for_one_process_and_leaves_the_rest_to_the_cluster() -> None:
    script = job_script("one", Resources(processes_per_node=2), Folder(Path("/a b/one")), Path("/home/me"))
    for absent in ("gpus", "--cpus-per-task", "--time", "partition"):
        assert absent not in script
    for present in ("--ntasks-per-node=2", "--nodes=1", "--trainer.devices=2", "'/a b/one/logs/%A_%a.out'"):
        assert present in script


def test_numbers_are_written_as_ranges() -> None:
    command = sbatch_command(Folder(Path("/s")), [7, 0, 2, 1, 9, 10], 3)
    assert command == ["sbatch", "--parsable", "--array=0-2,7,9-10%3", "/s/job.sh"]


def test_points_are_submitted_once_while_they_are_queued_running_or_finished(tmp_path: Path, cluster: Cluster) -> None:
    file = write_sweep(tmp_path, grid={MU: [0, -1, -2, -3]}, resources={"max_parallel": 2})
    folder = Folder(tmp_path / "runs" / "tiny")
    run(file)
    assert cluster.submitted == [f"--parsable --array=0-3%2 {folder.job_script}"]
    entries = read_manifest(folder.manifest)
    # 0 runs, 1 waits, 2 has failed, 3 is finished; another user's job has the number of point 2
    cluster.jobs.write_text("101 0 RUNNING\n101 1 PENDING\n999 2 PENDING\n   \n55 N/A RUNNING\n")
    finish(entries[3])
    (folder.logs / "101_2.out").write_text("error: no\nexit code 1\n")
    assert queue(folder) == {0: "running", 1: "queued"}
    run(file)
    assert cluster.submitted[1:] == [f"--parsable --array=2%2 {folder.job_script}"]
    cluster.jobs.write_text("101 0 RUNNING\n101 1 PENDING\n102 2 CONFIGURING\n")
    run(file)
    assert len(cluster.submitted) == 2
    # a new point is appended, and alone is submitted
    run(write_sweep(tmp_path, grid={MU: [0.5, 0, -1, -2, -3]}, resources={"max_parallel": 2}))
    assert cluster.submitted[2:] == [f"--parsable --array=4%2 {folder.job_script}"]
    jobs = [json.loads(line) for line in folder.submissions.read_text().splitlines()]
    assert [(job["job"], job["indices"]) for job in jobs] == [("101", [0, 1, 2, 3]), ("102", [2]), ("103", [4])]


def test_an_edited_script_is_kept_and_said_to_be(
    tmp_path: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Folder(tmp_path / "runs" / "tiny").job_script
    run(write_sweep(tmp_path))
    assert "--nodes=1" in script.read_text()
    run(write_sweep(tmp_path, resources={"nodes": 2}))  # not edited: written anew
    assert "--nodes=2" in script.read_text()
    assert "was edited" not in capsys.readouterr().out
    edited = script.read_text().replace("srun", "module load cuda\nsrun")
    script.write_text(edited)
    run(write_sweep(tmp_path, resources={"nodes": 3}))
    assert script.read_text() == edited
    assert f"{script} was edited and is used as it is" in capsys.readouterr().out
    script.unlink()
    run(write_sweep(tmp_path, resources={"nodes": 3}))
    assert "--nodes=3" in script.read_text()


def test_what_sbatch_says_is_shown_and_nothing_is_noted(tmp_path: Path, cluster: Cluster) -> None:
    cluster.refusal.touch()
    with pytest.raises(ValueError, match="exit code 1:\nsbatch: error: invalid partition specified: x"):
        run(write_sweep(tmp_path))
    assert not Folder(tmp_path / "runs" / "tiny").submissions.exists()


def test_without_slurm_nothing_is_submitted_and_the_status_is_shown_with_a_warning(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path)
    run(file)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="There is no squeue"):
        run(file)
    sweep(["status", str(file)])
    assert "what is queued is not known" in capsys.readouterr().out
    assert len(cluster.submitted) == 1


def test_a_dry_run_prints_all_and_writes_nothing(
    tmp_path: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path, grid={MU: [0, -1]}, resources={"max_parallel": 1})
    run(file, "--dry-run")
    printed = capsys.readouterr().out
    for expected in (f"--{MU}=-1", "#SBATCH --requeue", "sbatch --parsable --array=0-1%1", "mu=-1,seed=7"):
        assert expected in printed
    assert not (tmp_path / "runs").exists()
    assert not cluster.submitted


def test_a_task_becomes_the_command_of_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder, plan = planned(write_sweep(tmp_path, grid={MU: [0, -1]}))
    called: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda program, arguments: called.append(arguments))
    sweep(["point", str(folder.manifest), "1", "--trainer.devices=2", "--trainer.num_nodes=1"])
    expected = ["-m", "rectified_lpjepa", *plan.entries[1].argv, "--trainer.devices=2", "--trainer.num_nodes=1"]
    assert called == [[sys.executable, *expected]]
    with pytest.raises(ValueError, match="has no point 2"):
        sweep(["point", str(folder.manifest), "2"])
