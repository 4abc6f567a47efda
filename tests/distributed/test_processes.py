"""What tests of several processes stand on: a process that fails in any way fails the test."""

import pytest
import torch
from misbehaving import misbehave
from processes import ProcessFailedError, run_processes


def test_results_come_back_by_rank():
    assert run_processes(misbehave, 2, "not") == [(torch.tensor(1.0), 2)] * 2
    assert run_processes(misbehave, 2, "wait for nobody") == [(torch.tensor(0.0), 2), (torch.tensor(1.0), 2)]


@pytest.mark.parametrize(
    ("how", "message", "timeout"),
    [
        ("raise", r"(?s)Rank 1 raised:.*KeyError: 'broken on purpose'", 30),
        ("die", "Rank 1 died without a result", 30),
        ("hang", "Rank 1 did not finish in time", 2),
        ("exit code", r"Rank \d returned, then ended with exit code 7", 30),
    ],
)
def test_failures_fail_the_caller(how, message, timeout):
    with pytest.raises(ProcessFailedError, match=message):
        run_processes(misbehave, 2, how, timeout=timeout)
