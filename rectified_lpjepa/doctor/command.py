"""The command ``rectified-lpjepa doctor``."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from rectified_lpjepa import __version__
from rectified_lpjepa.commands import say
from rectified_lpjepa.doctor.checks import findings
from rectified_lpjepa.doctor.datasets import found_datasets
from rectified_lpjepa.doctor.machine import Machine, look
from rectified_lpjepa.doctor.training import read_training
from rectified_lpjepa.source import commit
from rectified_lpjepa.sweep.arguments import CommandParser

_EXPLAINED = """\
With further options, those of `fit`, the training that they describe is compared with the machine, too:
  rectified-lpjepa doctor --config configs/imagenet100_resnet50.yaml --trainer.devices 4

The exit code is 0 where there is no problem, and 1 where there is one.
"""


def doctor(arguments: Sequence[str]) -> None:
    """Print what is there, and what would go wrong.

    Args:
        arguments: what follows ``doctor`` on the command line.

    Raises:
        SystemExit: with status 1 where there is a problem, with status 2 for a wrong command line.
    """
    given, options = make_parser().parse_known_args(arguments)
    machine = look()
    # A training cannot be read, nor run, where packages are broken.
    training = read_training(options) if options and not machine.broken else None
    found = findings(machine, training)
    say(_table(_facts(machine, given.datasets)))
    say("\n" + ("\n".join(map(str, found)) if found else "no problem found"))
    if found:
        raise SystemExit(1)


def make_parser() -> CommandParser:
    """Make the parser of the command; what it does not know are options of ``fit``."""
    parser = CommandParser(
        prog="rectified-lpjepa doctor",
        description="Show versions, devices and data sets, and look for what would go wrong.",
        usage="rectified-lpjepa doctor [-h] [--datasets FOLDER] [OPTIONS of `fit`]",
        epilog=_EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--datasets", type=Path, default=Path("datasets"), metavar="FOLDER", help="where to look (default: datasets)"
    )
    return parser


def _facts(machine: Machine, datasets: Path) -> dict[str, str]:
    versions = {name: version or "not installed" for name, version in machine.versions.items()}
    versions["torch"] += f" (CUDA {machine.torch_cuda})" if machine.torch_cuda else " (without CUDA)"
    if machine.torchvision_build:
        versions["torchvision"] += f" ({machine.torchvision_build})"
    omp = machine.environment.get("OMP_NUM_THREADS")
    shared = machine.shared_memory
    return {
        "rectified-lpjepa": f"{__version__}, commit {commit()}",
        "python": f"{platform.python_version()}, {platform.platform()}",
        **versions,
        "devices": _devices(machine),
        "threads": f"{machine.threads}, OMP_NUM_THREADS {'is not set' if omp is None else f'is {omp}'}",
        "shared memory": "no /dev/shm" if shared is None else f"{shared / 2**30:.1f} GiB free in /dev/shm",
        "started by": _starter(machine.environment),
        "data sets": "; ".join(["digits (of scikit-learn)", *found_datasets(datasets)]),
        "": f"(in {datasets.absolute()})" if datasets.is_dir() else f"(there is no folder {datasets.absolute()})",
    }


def _devices(machine: Machine) -> str:
    parts = [f"{machine.cores} CPU core(s)", *machine.gpus]
    if machine.driver is not None:
        parts.append(f"NVIDIA driver {machine.driver}")
    if machine.has_mps:
        parts.append("a GPU of Apple's, which is not used: MPS has no float64")
    return ", ".join(parts)


def _starter(environment: Mapping[str, str]) -> str:
    if "TORCHELASTIC_RUN_ID" in environment:
        return f"torchrun, {environment['LOCAL_WORLD_SIZE']} process(es) here, {environment['WORLD_SIZE']} in all"
    if "SLURM_JOB_ID" in environment:
        tasks = environment.get("SLURM_STEP_NUM_TASKS")
        return f"SLURM, job {environment['SLURM_JOB_ID']}" + (f", {tasks} task(s)" if tasks else ", without srun")
    return "hand"


def _table(facts: Mapping[str, str]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {fact}" for name, fact in facts.items())
