"""A check of devices, nodes and started tasks against each other, before anything is loaded.

Lightning 2.6 takes many wrong launches in silence: tasks that each train alone on all of the data, one process where
several were asked for (its own comparison comes late, and not at all for one device), or processes that wait for others
that nobody started.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

from rectified_lpjepa.trainer_checks import NO_MPS

_ACCELERATORS = ("auto", "gpu", "cuda", "cpu")
_INTERACTIVE = ("bash", "interactive")  # names of jobs whose SLURM tasks Lightning does not look at


@dataclass(frozen=True)
class Layout:
    """How many processes a trainer is asked for.

    Args:
        devices: processes on each node.
        num_nodes: number of nodes.
        batch_size: images of a batch over all processes; None where nothing is trained.
        gpus: number of GPUs that this process sees; None where others are not trained on.
        is_auto: whether ``devices`` was left to what is found.
    """

    devices: int = 1
    num_nodes: int = 1
    batch_size: int | None = None
    gpus: int | None = None
    is_auto: bool = False

    @property
    def processes(self) -> int:
        """Number of processes on all nodes."""
        return self.devices * self.num_nodes

    @property
    def said(self) -> str:
        """The setting of the devices, as it stands on a command line."""
        return (
            f"`--trainer.devices auto`, {self.devices} here" if self.is_auto else f"`--trainer.devices {self.devices}`"
        )


def usable_accelerator(asked: Any) -> Any:
    """Give the CPU where Lightning would choose a GPU of Apple's by itself, and else what is asked for.

    Args:
        asked: the setting ``accelerator`` of a trainer.

    Raises:
        ValueError: such a GPU is asked for.
    """
    is_apple = MPSAccelerator.is_available() and not CUDAAccelerator.is_available()
    if "mps" in str(asked).lower() or (asked == "gpu" and is_apple):
        raise ValueError(NO_MPS)
    return "cpu" if asked == "auto" and is_apple else asked


def take_what_torchrun_started(trainer: Any, environment: Mapping[str, str]) -> None:
    """Set a trainer's devices and nodes, where they are left open, to what torchrun was told to start.

    Lightning would take all devices that it finds.

    Args:
        trainer: settings with ``devices`` and ``num_nodes``, changed in place.
        environment: the variables of this process.
    """
    if "TORCHELASTIC_RUN_ID" in environment and trainer.devices == "auto":
        trainer.devices = int(environment["LOCAL_WORLD_SIZE"])
        trainer.num_nodes = int(environment["WORLD_SIZE"]) // trainer.devices


def requested_layout(trainer: Mapping[str, Any], batch_size: int | None) -> Layout | None:
    """Read the layout from the settings of a trainer.

    Args:
        trainer: ``accelerator``, ``devices``, ``num_nodes`` and ``plugins``, as in a configuration.
        batch_size: images of a batch over all processes; None where nothing is trained.

    Returns:
        The layout, or None for accelerators and cluster environments of which nothing is known here.

    Raises:
        ValueError: ``devices`` is neither a number nor a list of devices.
    """
    accelerator, devices = trainer["accelerator"], trainer["devices"]
    if accelerator not in _ACCELERATORS or "Environment" in str(trainer["plugins"]):
        return None
    gpus = None
    if accelerator != "cpu" and CUDAAccelerator.is_available():
        gpus = CUDAAccelerator.auto_device_count()
    is_auto = devices in ("auto", -1, "-1")
    count = (gpus or 1) if is_auto else _count(devices)
    return Layout(count, trainer["num_nodes"], batch_size, gpus, is_auto)


def _count(devices: Any) -> int:
    if isinstance(devices, str) and re.fullmatch(r"\s*\d+\s*(,\s*\d*\s*)*", devices):
        return sum(part.strip() != "" for part in devices.split(",")) if "," in devices else int(devices)
    if isinstance(devices, list | tuple):
        return len(devices)
    if not isinstance(devices, int):
        raise ValueError(f"trainer.devices is {devices!r}. It must be a number, a list such as 0,1 or auto.")
    return devices


def check_launch(environment: Mapping[str, str], layout: Layout) -> None:
    """Compare a layout with what started this process.

    Args:
        environment: the variables of this process.
        layout: what the trainer is asked for.

    Raises:
        ValueError: the run would hang, or train something else than what was asked for; the message says what to
            change.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        faults = _faults_of_torchrun(environment, layout)
    elif "SLURM_JOB_ID" in environment:
        faults = _faults_of_slurm(environment, layout)
    else:
        faults = _faults_of_lone_node(environment, layout)
    faults += _faults_of_batch(layout)
    if faults:
        raise ValueError("\n".join(faults))


def _faults_of_torchrun(environment: Mapping[str, str], layout: Layout) -> list[str]:
    started, on_node = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
    if (started, on_node) == (layout.processes, layout.devices):
        return _faults_of_gpus(environment, layout)
    nodes = started // on_node
    return [
        f"You set {layout.said} and `--trainer.num_nodes {layout.num_nodes}`, but torchrun started {on_node} "
        f"process(es) here and {started} in all. HINT: set `--trainer.devices {on_node} --trainer.num_nodes {nodes}`, "
        f"or `torchrun --nnodes={layout.num_nodes} --nproc_per_node={layout.devices}`."
    ]


def _faults_of_slurm(environment: Mapping[str, str], layout: Layout) -> list[str]:
    is_step = "SLURM_STEP_ID" in environment
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS" if is_step else "SLURM_NTASKS", 1))
    srun = (
        f"srun --nodes={layout.num_nodes} --ntasks-per-node={layout.devices} rectified-lpjepa …` with the same numbers "
        "in the `#SBATCH` lines"
    )
    if environment.get("SLURM_JOB_NAME") in _INTERACTIVE:
        if is_step and tasks > 1 and "SLURM_PTY_PORT" not in environment:
            return [
                f"The SLURM job is called {environment['SLURM_JOB_NAME']!r}, which Lightning takes for an interactive "
                f"session, so that each of the {tasks} tasks would train alone. HINT: set `--job-name=train`."
            ]
        return _faults_of_lone_node(environment, layout)
    if not is_step:
        if "SLURM_NTASKS" not in environment:  # then Lightning starts the processes of this node itself
            return _faults_of_lone_node(environment, layout)
        if tasks == layout.processes == 1:
            return _faults_of_gpus(environment, layout)
        return [
            f"The SLURM job has {tasks} task(s) and {layout.processes} process(es) were asked for, but this program "
            f"was started once, without srun. HINT: start it with `{srun}."
        ]
    return _faults_of_step(environment, layout, tasks) or _faults_of_gpus(environment, layout)


def _faults_of_step(environment: Mapping[str, str], layout: Layout, tasks: int) -> list[str]:
    faults = []
    nodes = int(environment["SLURM_STEP_NUM_NODES"])
    if nodes != layout.num_nodes:
        faults.append(
            f"You set `--trainer.num_nodes {layout.num_nodes}`, but SLURM started the program on {nodes} node(s). "
            f"HINT: set `--trainer.num_nodes {nodes}`, or `#SBATCH --nodes={layout.num_nodes}`."
        )
    on_nodes = _tasks_on_nodes(environment["SLURM_STEP_TASKS_PER_NODE"])
    if set(on_nodes) != {layout.devices}:
        if layout.is_auto and "SLURM_GPUS_PER_TASK" in environment:
            return _faults_of_gpus(environment, Layout(on_nodes[0], layout.num_nodes, gpus=layout.gpus))
        listed = ", ".join(map(str, on_nodes[:8])) + (", …" if len(on_nodes) > 8 else "")
        started = f"{on_nodes[0]} task(s) per node" if len(set(on_nodes)) == 1 else f"{listed} tasks on the nodes"
        faults.append(
            f"You set {layout.said}, but SLURM started {started}. HINT: set `#SBATCH "
            f"--ntasks-per-node={layout.devices}`, or `--trainer.devices {on_nodes[0]}` if that is what you want."
        )
    asked = environment.get("SLURM_NTASKS_PER_NODE")
    if not faults and (tasks > 1 if asked is None else int(asked) != layout.devices):
        # Lightning looks at what was asked for, not at what was started.
        said = "without `--ntasks-per-node`" if asked is None else f"under `--ntasks-per-node={asked}`"
        faults.append(
            f"SLURM started the {tasks} task(s) that you want, but {said}, which Lightning does not accept. HINT: add "
            f"`--ntasks-per-node={layout.devices}` to srun."
        )
    return faults


def _tasks_on_nodes(text: str) -> list[int]:
    """Read SLURM's notation: ``2(x3),1`` is [2, 2, 2, 1]."""
    counts = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    return counts


def _faults_of_lone_node(environment: Mapping[str, str], layout: Layout) -> list[str]:
    if layout.num_nodes == 1:
        return _faults_of_gpus(environment, layout)
    return [
        f"You set `--trainer.num_nodes {layout.num_nodes}`, but neither SLURM nor torchrun started this process, which "
        f"so does not know which of all it is. HINT: start it on all nodes, with `srun --nodes={layout.num_nodes} "
        f"--ntasks-per-node={layout.devices} rectified-lpjepa …` or `torchrun --nnodes={layout.num_nodes} …`."
    ]


def _faults_of_gpus(environment: Mapping[str, str], layout: Layout) -> list[str]:
    if layout.gpus is None or layout.devices <= layout.gpus:
        return []
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    because = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible})"
    hint = f"set `--trainer.devices {layout.gpus}`, or show it more of them"
    if "SLURM_GPUS_PER_TASK" in environment:
        hint = f"each task must see all of its node's: set `#SBATCH --gpus-per-node={layout.devices}` in place of "
        hint += "`--gpus-per-task`"
    elif "SLURM_JOB_ID" in environment:
        hint = f"set `#SBATCH --gpus-per-node={layout.devices}`, or `--trainer.devices {layout.gpus}`"
    return [f"Each node needs {layout.devices} GPUs, but this process sees {layout.gpus}{because}. HINT: {hint}."]


def _faults_of_batch(layout: Layout) -> list[str]:
    if layout.batch_size is None or layout.batch_size % layout.processes == 0:
        return []
    near = max(1, layout.batch_size // layout.processes) * layout.processes
    return [
        f"You set `--data.batch_size {layout.batch_size}`, the batch of all processes together, but {layout.processes} "
        f"processes ({layout.devices} on each of {layout.num_nodes} node(s)) cannot share it equally. HINT: set "
        f"`--data.batch_size {near}`."
    ]
