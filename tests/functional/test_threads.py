"""A map over threads: order, errors, and the settings that it leaves as they were."""

import threading

import pytest
import torch

from rectified_lpjepa.benchmarks import measure
from rectified_lpjepa.functional.threads import map_in_threads


def test_results_come_in_order_and_settings_stay(threads):
    assert map_in_threads(lambda item: item * item, range(20)) == [item * item for item in range(20)]
    assert map_in_threads(lambda item: item, []) == []
    assert torch.get_num_threads() == threads
    seen = []
    # What PyTorch gives to a thread that is started afterwards.
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [threads]
    assert torch.is_grad_enabled()


def test_threads_run_side_by_side_and_compute_alone():
    meeting = threading.Barrier(2, timeout=20)

    def meet(_):
        meeting.wait()  # passes only with both of them inside
        return torch.get_num_threads(), torch.is_grad_enabled()

    with measure.threads(2):
        assert map_in_threads(meet, range(2)) == [(1, False)] * 2


def test_an_error_is_passed_on_and_settings_stay(threads):
    def fail(item):
        raise ValueError(f"item {item}")

    for items in (range(1), range(8)):
        with pytest.raises(ValueError, match="item 0"):
            map_in_threads(fail, items)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
