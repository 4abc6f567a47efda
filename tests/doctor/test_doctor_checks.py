"""What the doctor finds, mistake by mistake, and that it finds nothing on a machine in order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rectified_lpjepa.doctor.checks import findings
from rectified_lpjepa.doctor.machine import Machine
from rectified_lpjepa.doctor.training import Training

SOUND = Machine(
    versions={"torch": "2.15.0", "torchvision": "0.29.2"},
    torch_cuda="13.2",
    torchvision_build="cu132",
    gpus=("a GPU", "a GPU"),
    driver="600.1",
    cores=16,
    shared_memory=8 * 2**30,
    environment={"OMP_NUM_THREADS": "8", "LOCAL_WORLD_SIZE": "2"},
)
PLAIN = Machine(cores=4, shared_memory=None, torchvision_build="cpu")
FILES = Training(processes=2, num_workers=8, reads_files=True, on_gpus=True)


@pytest.mark.parametrize("machine", [SOUND, PLAIN, replace(SOUND, torchvision_build="", environment={})])
def test_nothing_is_found_where_all_is_well(machine: Machine) -> None:
    assert findings(machine) == []


@pytest.mark.parametrize(
    "training",
    [FILES, Training(processes=16), replace(FILES, processes=1, num_workers=16), replace(FILES, num_workers=4)],
)
def test_nothing_is_found_against_a_training_that_fits(training: Training) -> None:
    assert findings(replace(SOUND, environment={}), training) == []


@pytest.mark.parametrize(
    ("machine", "parts"),
    [
        (
            replace(SOUND, broken={"torchvision": "operator torchvision::nms does not exist"}),
            ("torchvision cannot be imported (operator torchvision::nms", "of one release", "--force-reinstall torch"),
        ),
        (
            replace(SOUND, unmet=("torchvision needs torch==2.14.0, and 2.15.0 is installed",)),
            ("needs torch==2.14.0, and 2.15.0 is", "fit each other", "make setup"),
        ),
        (
            replace(SOUND, torch_cuda=None, driver=None),
            ("torch without CUDA beside a torchvision for CUDA (cu132)", "one kind", "install both together"),
        ),
        (
            replace(SOUND, torchvision_build="cpu"),
            ("torch for CUDA 13.2 beside a torchvision without CUDA", "one kind", "install both together"),
        ),
        (
            replace(SOUND, torchvision_build="cu128"),
            ("torch for CUDA 13.2 beside a torchvision for cu128", "one kind", "install both together"),
        ),
        (
            replace(SOUND, gpus=(), warnings=("The NVIDIA driver on your system is too old (found version 11040).",)),
            ("driver on your system is too old", "that torch can use", "update the NVIDIA driver"),
        ),
        (
            replace(PLAIN, driver="600.1"),
            ("a torch without CUDA beside the NVIDIA driver 600.1", "built for CUDA", "install a torch"),
        ),
        (
            replace(SOUND, gpus=(), environment={"CUDA_VISIBLE_DEVICES": ""}),
            ("but torch sees no GPU (CUDA_VISIBLE_DEVICES='')", "may use", "unset CUDA_VISIBLE_DEVICES"),
        ),
        (
            replace(SOUND, shared_memory=64 * 2**20),
            ("64 MiB of shared memory", "1 GiB or more", "--shm-size 8g"),
        ),
        (
            replace(SOUND, environment={"OMP_NUM_THREADS": "16", "LOCAL_WORLD_SIZE": "2"}),
            ("OMP_NUM_THREADS=16 for 2 process(es) on 16 core(s)", "8 or less", "set OMP_NUM_THREADS=8"),
        ),
        (
            replace(PLAIN, environment={"OMP_NUM_THREADS": "1"}),
            ("OMP_NUM_THREADS=1 for 1 process(es) on 4 core(s)", "about 4", "torchrun sets it to 1"),
        ),
        (
            replace(SOUND, environment={"OMP_NUM_THREADS": "all"}),
            ("OMP_NUM_THREADS=all", "a number from 1", "set OMP_NUM_THREADS=16"),
        ),
    ],
)
def test_each_mistake_is_found_alone_with_what_is_expected_and_what_to_do(
    machine: Machine, parts: tuple[str, str, str]
) -> None:
    [finding] = findings(machine)
    fields = (finding.found, finding.expected, finding.advice)
    assert [part in field for part, field in zip(parts, fields, strict=True)] == [True, True, True], fields
    assert str(finding) == f"problem: {finding.found}; expected: {finding.expected}\n  HINT: {finding.advice}"


@pytest.mark.parametrize(
    ("training", "parts"),
    [
        (
            replace(FILES, num_workers=1),
            ("num_workers 1` with 8 core(s) for each of 2 process(es)", "about 8", "--data.num_workers 8"),
        ),
        (replace(FILES, num_workers=0), ("num_workers 0` with", "about 8", "--data.num_workers 8")),
        (replace(FILES, processes=4), ("num_workers 8` with 4 core(s)", "4 or less", "--data.num_workers 4")),
        (
            Training(refusals=("You set 3 and 2 were started. HINT: set 2.",)),
            ("You set 3 and 2 were started", "asked for", "set 2."),
        ),
    ],
)
def test_what_a_training_asks_is_compared_with_the_machine(training: Training, parts: tuple[str, str, str]) -> None:
    [finding] = findings(replace(SOUND, environment={}), training)
    fields = (finding.found, finding.expected, finding.advice)
    assert [part in field for part, field in zip(parts, fields, strict=True)] == [True, True, True], fields


def test_shared_memory_matters_to_those_who_use_it() -> None:
    small = replace(SOUND, shared_memory=64 * 2**20, environment={})
    assert len(findings(small, FILES)) == 1
    assert findings(small, Training(processes=2)) == []


def test_on_gpus_few_threads_are_enough() -> None:
    one = replace(SOUND, environment={"OMP_NUM_THREADS": "1"})
    assert findings(one, FILES) == []
    assert len(findings(one, replace(FILES, on_gpus=False))) == 1
