"""What all benchmarks measure with: rounds in turn, their spread, peak memory, devices and threads."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rectified_lpjepa.benchmarks.measure import (
    Spread,
    Timings,
    choose_device,
    peak_extra_memory,
    threads,
    time_in_turn,
)


def test_sides_run_in_turn_and_only_the_counted_rounds_are_kept():
    calls = []
    timings = time_in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmup=2)
    assert calls == ["a", "b"] * 5
    assert {side: len(rounds) for side, rounds in timings.rounds.items()} == {"a": 3, "b": 3}
    with pytest.raises(ValueError, match="at least 1 round"):
        time_in_turn({}, repeats=0)


def test_spread_is_numpys_and_ratios_go_round_by_round():
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    assert Spread.of(values) == pytest.approx(np.percentile(values, [50, 25, 75]))
    assert Spread.of([2.0]) == (2.0, 2.0, 2.0)
    timings = Timings({"slow": [2.0, 20.0, 6.0], "fast": [1.0, 10.0, 2.0]})
    assert timings.ratio("slow", "fast").median == 2.0
    assert timings.seconds("slow").median == 6.0


def allocate(mebibytes, device):
    return lambda: torch.ones(mebibytes * 2**18, device=device)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="resident memory is read from Linux's /proc")
def test_peak_memory_of_a_function_that_lets_it_go_again():
    peak = peak_extra_memory(allocate, 96, "cpu", device="cpu")
    assert 90 * 2**20 < peak < 120 * 2**20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_memory_on_cuda():
    assert peak_extra_memory(allocate, 96, "cuda", device="cuda") == 96 * 2**20


def test_auto_is_the_gpu_where_there_is_one():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_threads_are_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="inside"), threads(before + 1):
        raise RuntimeError(f"inside with {torch.get_num_threads() - before} more")
    assert torch.get_num_threads() == before
