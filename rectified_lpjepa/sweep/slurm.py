"""A sweep on a cluster with SLURM: one job array by plain ``sbatch``, one ``srun`` for each point."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from rectified_lpjepa.files import write_text
from rectified_lpjepa.sweep.file import Resources
from rectified_lpjepa.sweep.manifest import Folder

_SCRIPT = """\
#!/bin/bash
# One task of the job array trains one point: the line of the manifest that has the task's number.
# Yours to edit: a changed script is kept, and written anew from the sweep file once it is deleted.
# sha256 as written: {digest}
{body}"""
_BODY = """\
{directives}

export OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-1}}"
export SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-1}}"
srun{wait} {python} -m rectified_lpjepa sweep point \\
    {manifest} "$SLURM_ARRAY_TASK_ID" \\
    --trainer.devices={devices} --trainer.num_nodes={nodes}
code=$?
# `sweep status` tells by this line a point that failed from one that was stopped.
[ "$code" -eq 0 ] || echo "exit code $code"
exit "$code"
"""
_LEAVE_TOGETHER = 120  # seconds that the processes of a point may end apart, before one that hangs is ended, too


def job_script(name: str, resources: Resources, folder: Folder, directory: Path) -> str:
    """Write the script of a job array.

    Args:
        name: of the job.
        resources: of one point.
        folder: of the sweep.
        directory: working directory of the jobs, which relative paths among the options start from.
    """
    options: dict[str, str | int | Path | None] = {
        "job-name": name,
        "chdir": directory,
        "output": folder.logs / "%A_%a.out",
        "open-mode": "append",
        "signal": f"USR1@{resources.signal_seconds}",
        "nodes": resources.nodes,
        "ntasks-per-node": resources.processes,
        "gpus-per-node": resources.gpus_per_node,
        "cpus-per-task": resources.cpus_per_task,
        "time": resources.time,
        "partition": resources.partition,
    }
    lines = ["--requeue", *(f"--{option}={shlex.quote(str(value))}" for option, value in options.items() if value)]
    script = _SCRIPT.format(
        digest="{digest}",
        body=_BODY.format(
            directives="\n".join(f"#SBATCH {line}" for line in [*lines, *resources.sbatch]),
            wait=f" --wait={_LEAVE_TOGETHER}" if resources.nodes * resources.processes > 1 else "",
            python=shlex.quote(sys.executable),
            manifest=shlex.quote(str(folder.manifest)),
            devices=resources.processes,
            nodes=resources.nodes,
        ),
    )
    return script.replace("{digest}", _digest(script), 1)


def is_edited(script: str) -> bool:
    """Say whether a job script is not as it was written."""
    written = re.search(r"^# sha256 as written: (\w+)$", script, flags=re.MULTILINE)
    return written is None or _digest(script.replace(written[1], "{digest}", 1)) != written[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sbatch_command(folder: Folder, indices: Iterable[int], max_parallel: int | None) -> list[str]:
    """Give the command that submits points as one job array."""
    array = _ranges(sorted(indices)) + (f"%{max_parallel}" if max_parallel else "")
    return ["sbatch", "--parsable", f"--array={array}", str(folder.job_script)]


def _ranges(indices: list[int]) -> str:
    """Write numbers as SLURM does: 0-3,7."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and parts[-1][-1] == index - 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def submit(folder: Folder, script: str, indices: list[int], max_parallel: int | None) -> str:
    """Submit points as one job array, and write down that it was done.

    Args:
        folder: of the sweep, its manifest written.
        script: content of the job script.
        indices: of the points.
        max_parallel: points that run at a time.

    Returns:
        The number of the job.

    Raises:
        ValueError: sbatch refuses; the message is its own.
    """
    folder.logs.mkdir(parents=True, exist_ok=True)
    write_text(folder.job_script, script)
    command = sbatch_command(folder, indices, max_parallel)
    job = _output(command).strip().partition(";")[0]  # ";" comes before the name of the cluster
    told = {"job": job, "indices": indices, "time": datetime.now(UTC).isoformat(timespec="seconds"), "command": command}
    with folder.submissions.open("a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")
    return job


def queue(folder: Folder) -> dict[int, str]:
    """Ask SLURM which points of a sweep are ``queued`` or ``running``, by index; nothing where none was submitted.

    Raises:
        ValueError: squeue fails or is missing.
    """
    if not folder.submissions.exists():
        return {}
    lines = folder.submissions.read_text(encoding="utf-8").splitlines()
    jobs = {json.loads(line)["job"] for line in lines}
    states = {}
    for line in _output(["squeue", "--noheader", "--me", "--array", "--format=%F %K %T"]).splitlines():
        job, _, rest = line.strip().partition(" ")
        index, _, state = rest.partition(" ")
        if job in jobs:
            states[int(index)] = "queued" if state == "PENDING" else "running"
    return states


def _output(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        raise ValueError(f"There is no {command[0]} on this machine. HINT: use a node of the cluster.")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = (done.stderr or done.stdout).strip()
        if "array" in told.lower():
            told += "\nHINT: `scontrol show config | grep MaxArraySize` says how many points an array may have."
        raise ValueError(f"{shlex.join(command)} failed with exit code {done.returncode}:\n{told}")
    return done.stdout
