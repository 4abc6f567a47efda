"""What a run hears from SLURM, and what it says to it."""

from __future__ import annotations

import os
import subprocess

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment


def srun_environment() -> SLURMEnvironment | None:
    """Give Lightning's plugin for processes that srun has started; None for others, those of torchrun in a job, too.

    It leaves signals alone: Lightning's own handler would save amid whatever the program is doing; ours are those of
    :class:`~rectified_lpjepa.callbacks.RunCheckpoint`.
    """
    if not SLURMEnvironment.detect() or TorchElasticEnvironment.detect():
        return None
    return SLURMEnvironment(auto_requeue=False)


def requeue_job() -> str | None:
    """Ask SLURM to queue the job that this process belongs to again, once.

    Returns:
        What came of it, as a sentence; None outside a job.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    command = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        problem = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        return f"job {job} was not queued again ({problem}): HINT: do it by `{' '.join(command)}`, or submit it anew"
    return f"job {job} is queued again"
