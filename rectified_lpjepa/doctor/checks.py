"""What would go wrong on a machine: pure functions from what was found to findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rectified_lpjepa.doctor.machine import Machine
from rectified_lpjepa.doctor.training import Training

_REINSTALL = "install both together: `pip install --force-reinstall torch torchvision`, from one index"
_ENOUGH_WORKERS = 8  # the default of data sets of files
# Eight workers hold two batches each; of 128 images in two views of 224 × 224 pixels, these take 0.6 GB.
_ENOUGH_SHARED_MEMORY = 2**30


@dataclass(frozen=True)
class Finding:
    """Something that would go wrong.

    Attributes:
        found: what is there.
        expected: what should be.
        advice: what to do.
    """

    found: str
    expected: str
    advice: str

    def __str__(self) -> str:
        """Lay it out for the command line, in two lines."""
        return f"problem: {self.found}; expected: {self.expected}\n  HINT: {self.advice}"


def findings(machine: Machine, training: Training | None = None) -> list[Finding]:
    """Look for typical mistakes.

    Args:
        machine: that is to be trained on.
        training: that is to run; None for none in particular.
    """
    return [
        *_packages(machine),
        *_builds(machine),
        *_gpus(machine),
        *_shared_memory(machine, training),
        *_threads(machine, training or Training(processes=_started(machine), on_gpus=bool(machine.gpus))),
        *(_training(machine, training) if training is not None else ()),
    ]


def _packages(machine: Machine) -> Iterator[Finding]:
    for name, message in machine.broken.items():
        yield Finding(f"{name} cannot be imported ({message})", "torch and torchvision of one release", _REINSTALL)
    for sentence in machine.unmet:
        advice = "`pip check` shows all; in a checkout `make setup` installs versions that fit"
        yield Finding(sentence, "versions that fit each other", advice)


def _builds(machine: Machine) -> Iterator[Finding]:
    build, cuda = machine.torchvision_build, machine.torch_cuda
    if not build or "torch" in machine.broken:
        return
    if build.startswith("cu") and cuda is None:
        yield Finding(f"torch without CUDA beside a torchvision for CUDA ({build})", "builds of one kind", _REINSTALL)
    elif build == "cpu" and cuda is not None:
        yield Finding(f"torch for CUDA {cuda} beside a torchvision without CUDA", "builds of one kind", _REINSTALL)
    elif build.startswith("cu") and cuda is not None and not build[2:].startswith(cuda.partition(".")[0]):
        yield Finding(f"torch for CUDA {cuda} beside a torchvision for {build}", "builds of one kind", _REINSTALL)


def _gpus(machine: Machine) -> Iterator[Finding]:
    for message in machine.warnings:
        advice = "update the NVIDIA driver, or install a torch built for an older CUDA"
        yield Finding(f"torch warns of the GPUs: {message}", "a driver and GPUs that torch can use", advice)
    if machine.driver is None or machine.gpus or machine.warnings or "torch" in machine.broken:
        return
    beside = f"the NVIDIA driver {machine.driver}"
    if machine.torch_cuda is None:
        advice = "install a torch built for CUDA, and torchvision with it"
        yield Finding(f"a torch without CUDA beside {beside}", "a torch built for CUDA", advice)
        return
    visible = machine.environment.get("CUDA_VISIBLE_DEVICES")
    said = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible!r})"
    advice = "unset CUDA_VISIBLE_DEVICES, ask the cluster for a GPU, or start the container with `--gpus all`"
    yield Finding(f"{beside}, but torch sees no GPU{said}", "a GPU that this process may use", advice)


def _shared_memory(machine: Machine, training: Training | None) -> Iterator[Finding]:
    free = machine.shared_memory
    if free is None or free >= _ENOUGH_SHARED_MEMORY or (training is not None and training.num_workers == 0):
        return
    yield Finding(
        f"{free / 2**20:.0f} MiB of shared memory (/dev/shm) are free",
        f"{_ENOUGH_SHARED_MEMORY / 2**30:.0f} GiB or more, by which processes that read images hand over batches",
        "start the container with `--shm-size 8g` or `--ipc host`; `--data.num_workers 0` does without",
    )


def _threads(machine: Machine, training: Training) -> Iterator[Finding]:
    text, cores, processes = machine.environment.get("OMP_NUM_THREADS"), machine.cores, training.processes
    if text is None:
        return
    share = max(1, cores // processes)
    found = f"OMP_NUM_THREADS={text} for {processes} process(es) on {cores} core(s)"
    advice = f"set OMP_NUM_THREADS={share}, or unset it"
    if not text.isdecimal() or int(text) < 1:
        yield Finding(found, "a number from 1", advice)
    elif int(text) > share:
        yield Finding(found, f"{share} or less: threads that share a core wait for each other", advice)
    elif int(text) < share / 2 and not training.on_gpus:
        advice += "; torchrun sets it to 1 where it is not set"
        yield Finding(found, f"about {share}: cores stay idle", advice)


def _started(machine: Machine) -> int:
    """Give the number of processes that torchrun has started on this node, 1 without it."""
    return int(machine.environment.get("LOCAL_WORLD_SIZE", 1))


def _training(machine: Machine, training: Training) -> Iterator[Finding]:
    for refusal in training.refusals:
        found, _, advice = refusal.partition(" HINT: ")
        yield Finding(found.rstrip("."), "a training that this machine can run as it is asked for", advice)
    workers, share = training.num_workers, max(1, machine.cores // training.processes)
    found = f"`--data.num_workers {workers}` with {share} core(s) for each of {training.processes} process(es)"
    if workers > share:
        yield Finding(found, f"{share} or less: more of them take turns", f"set `--data.num_workers {share}`")
    elif training.reads_files and workers < min(share // 2, _ENOUGH_WORKERS):
        enough = min(share, _ENOUGH_WORKERS)
        advice = f"set `--data.num_workers {enough}`"
        yield Finding(found, f"about {enough}: fewer decode images too slowly to keep training busy", advice)
