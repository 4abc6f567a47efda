"""What the doctor reads from the machine, on this one and with parts of it replaced."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from rectified_lpjepa.doctor import machine as module
from rectified_lpjepa.doctor.datasets import found_datasets
from rectified_lpjepa.doctor.machine import look, unmet_requirements


def test_this_machine_is_described_as_its_libraries_describe_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = look()
    assert found.versions["torch"] == torch.__version__.partition("+")[0]
    assert (found.versions["wandb"] is None) == (module.installed_version("wandb") is None)
    assert found.broken == {}
    assert found.torch_cuda == torch.version.cuda
    assert found.torchvision_build == torchvision.__version__.partition("+")[2]
    assert len(found.gpus) == torch.cuda.device_count()
    assert found.threads == torch.get_num_threads()
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.environment["OMP_NUM_THREADS"] == "1"


def test_what_torch_says_of_an_old_driver_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_available() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your\nsystem is too old.", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    found = look()
    assert found.warnings == ("CUDA initialization: The NVIDIA driver on your system is too old.",)
    assert found.gpus == ()


def test_a_torchvision_that_cannot_be_imported_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(module.importlib, "import_module", load)
    assert look().broken == {"torchvision": "operator torchvision::nms does not exist"}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.07  Sat Feb 17", "535.161.07"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build", "570.86.15"),
        ("something else", "of unknown version"),
    ],
)
def test_the_driver_is_read_from_what_the_kernel_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, version: str
) -> None:
    monkeypatch.setattr(module, "_NVIDIA_DRIVER", tmp_path / "version")
    assert module._driver() is None
    (tmp_path / "version").write_text(text)
    assert module._driver() == version


def test_requirements_are_those_that_packages_declare(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["torch==2.14.0", "pillow!=8.3.*,>=5.3", "absent>=1", "extra>=1; extra == 'all'"]
    installed = {"torch": "2.15.0", "pillow": "11.0"}
    monkeypatch.setattr(module, "requires", lambda package: declared)
    monkeypatch.setattr(module, "installed_version", installed.get)
    assert unmet_requirements("torchvision") == [
        "torchvision needs torch==2.14.0, and 2.15.0 is installed",
        "torchvision needs absent>=1, and it is not installed",
    ]


def test_nothing_is_said_of_a_package_that_is_not_installed() -> None:
    assert unmet_requirements("there-is-no-such-package") == []


def test_data_sets_are_told_by_how_they_lie_in_a_folder(tmp_path: Path) -> None:
    assert found_datasets(tmp_path / "absent") == []
    for folder in ("cifar-100-python", "flowers-102", "mine/train/cat", "mine/train/dog", "mine/val/cat", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    np.savez(tmp_path / "arrays.npz", x_train=np.zeros(1), x_test=np.zeros(1))
    (tmp_path / "broken.npz").write_bytes(b"PK")
    (tmp_path / "notes.txt").write_text("")
    assert found_datasets(tmp_path) == [
        "arrays.npz (x_test, x_train)",
        "broken.npz (damaged: it is no .npz file)",
        "cifar100",
        "flowers102",
        "mine (train: 2 classes, val: 1 classes)",
    ]
