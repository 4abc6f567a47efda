"""What a machine has, as far as a training depends on it; broken installations are described, not fatal."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from rectified_lpjepa.commands import installed_version
from rectified_lpjepa.machine import available_cores

_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "timm", "numpy", "wandb")
_REQUIRING = ("rectified-lpjepa", "torchvision", "lightning")
_SHARED_MEMORY = Path("/dev/shm")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        versions: of the packages by name; None for one that is not installed.
        unmet: what installed packages ask for, and what there is in its place, as sentences.
        broken: error messages of packages that cannot be imported, by name.
        torch_cuda: version of CUDA that torch was built for; None for another build.
        torchvision_build: end of torchvision's version, such as ``cpu`` or ``cu128``; empty where it says none.
        gpus: names of the GPUs that torch uses.
        driver: version of the NVIDIA driver; None where there is none.
        warnings: what torch said when it looked for GPUs.
        has_mps: whether there is a GPU of Apple's.
        threads: threads in which torch computes.
        cores: that this process may use.
        shared_memory: free bytes of the memory that processes share; None where the system has no folder for it.
        environment: the variables of this process.
    """

    versions: Mapping[str, str | None] = field(default_factory=dict)
    unmet: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    torch_cuda: str | None = None
    torchvision_build: str = ""
    gpus: tuple[str, ...] = ()
    driver: str | None = None
    warnings: tuple[str, ...] = ()
    has_mps: bool = False
    threads: int = 1
    cores: int = 1
    shared_memory: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def look() -> Machine:
    """Describe this machine."""
    broken = {name: message for name in ("torch", "torchvision") if (message := _import_error(name))}
    return Machine(
        versions={name: installed_version(name) for name in _PACKAGES},
        unmet=tuple(sentence for name in _REQUIRING for sentence in unmet_requirements(name)),
        broken=broken,
        torchvision_build=_torchvision_build(),
        driver=_driver(),
        cores=available_cores(),
        shared_memory=shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else None,
        environment=dict(os.environ),
        **({} if "torch" in broken else _seen_by_torch()),
    )


def unmet_requirements(package: str) -> list[str]:
    """Say which of the packages that an installed package asks for are missing, or of another version.

    Args:
        package: the one that asks; nothing is said of one that is not installed.
    """
    try:
        listed = [Requirement(line) for line in requires(package) or ()]
    except PackageNotFoundError:
        return []
    sentences = []
    for needed in listed:
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        found = installed_version(needed.name)
        if found is None or not needed.specifier.contains(found, prereleases=True):
            there = "it is not installed" if found is None else f"{found} is installed"
            sentences.append(f"{package} needs {needed.name}{needed.specifier}, and {there}")
    return sentences


def _import_error(package: str) -> str:
    try:
        importlib.import_module(package)
    except Exception as error:  # whatever a broken installation raises
        return str(error) or type(error).__name__
    return ""


def _seen_by_torch() -> dict[str, Any]:
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        gpus = tuple(torch.cuda.get_device_properties(index).name for index in range(count))
    return {
        "torch_cuda": torch.version.cuda,
        "gpus": gpus,
        "warnings": tuple(" ".join(str(warning.message).split()) for warning in caught),
        "has_mps": torch.backends.mps.is_available(),
        "threads": torch.get_num_threads(),
    }


def _torchvision_build() -> str:
    """Read what torchvision was built for from its file: it may not be importable."""
    place = importlib.util.find_spec("torchvision")
    file = Path(place.origin).with_name("version.py") if place is not None and place.origin else None
    if file is None or not file.is_file():
        return ""
    found = re.search(r"__version__ = '[^'+]*\+(\w+)'", file.read_text(encoding="utf-8"))
    return found[1] if found else ""


def _driver() -> str | None:
    if not _NVIDIA_DRIVER.is_file():
        return None
    found = re.search(r"Module\D+([\d.]+)", _NVIDIA_DRIVER.read_text(encoding="utf-8").replace("x86_64", ""))
    return found[1] if found else "of unknown version"
