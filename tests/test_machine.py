"""The cores that a process may use, and what results say of the machine: the model of its CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_jepa import quiet_trainer

from rectified_lpjepa import machine
from rectified_lpjepa.benchmarks.report import describe_environment
from rectified_lpjepa.callbacks import summary
from rectified_lpjepa.evaluation.run import _hardware as of_an_evaluation
from rectified_lpjepa.machine import available_cores
from rectified_lpjepa.remarks import start_remarks

INFORMATION = (
    "processor\t: 0\nmodel\t\t: 85\nmodel name\t: A Processor 8000 @ 2.50GHz\nprocessor\t: 1\nmodel name\t: B\n"
)


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert available_cores() == 2


@pytest.mark.parametrize(("counted", "cores"), [(6, 6), (None, 1)])
def test_where_the_system_does_not_tell_them_apart_they_are_all_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, counted: int | None, cores: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert available_cores() == cores


@pytest.fixture
def information(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "cpuinfo"
    path.write_text(INFORMATION)
    monkeypatch.setattr(machine, "_LINUX", path)
    functions = (machine.processor, machine.has_bfloat16)
    for function in functions:
        function.cache_clear()
    yield path
    for function in functions:
        function.cache_clear()


def test_the_processor_is_the_one_that_the_system_names(information: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = machine.processor.__wrapped__
    assert look() == "A Processor 8000 @ 2.50GHz"
    monkeypatch.setattr("platform.processor", lambda: "arm")
    information.write_text("BogoMIPS\t: 48.00\n")
    assert look() == "arm"
    information.unlink()
    assert look() == "arm"
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert look() == "aarch64"


def test_it_has_bfloat16_where_the_system_lists_such_instructions(information: Path) -> None:
    look = machine.has_bfloat16.__wrapped__
    assert not look()
    for instructions, has in {"avx2 avx512bw": False, "avx512_bf16": True, "amx_tile amx_bf16 fma": True}.items():
        information.write_text(f"{INFORMATION}flags\t\t: fpu {instructions}\n")
        assert look() == has
    information.unlink()
    assert not look()


def test_all_results_name_it(information: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    told = f"{threads} threads, A Processor 8000 @ 2.50GHz"
    assert summary._hardware(quiet_trainer(tmp_path)) == f"1 process(es) × {told}"
    assert of_an_evaluation(torch.device("cpu")) == told
    assert describe_environment("cpu")["hardware"].startswith("A Processor 8000 @ 2.50GHz, ")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the system does not list the processor's instructions")
def test_bfloat16_is_emulated_where_the_processor_lacks_its_instructions() -> None:
    instructions = set(Path("/proc/cpuinfo").read_text().split())
    if instructions & {"avx512_bf16", "amx_bf16"}:
        assert not summary._lacks_bfloat16()
    elif "avx2" in instructions and not instructions & {"avx512bw", "avx_ne_convert"}:
        assert summary._lacks_bfloat16()


@pytest.mark.parametrize("emulated", [False, True])
def test_a_run_says_that_its_precision_is_emulated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulated: bool
) -> None:
    monkeypatch.setattr(summary, "_lacks_bfloat16", lambda: emulated)
    assert summary._precision(quiet_trainer(tmp_path)) == "32-true"
    half = summary._precision(quiet_trainer(tmp_path, precision="bf16-mixed"))
    assert half == "bf16-mixed" + ", emulated" * emulated
    assert [remark.measured for remark in start_remarks({"precision": half})] == [half] * emulated
