"""What tests of functions that use several threads ask for."""

import pytest

from rectified_lpjepa.benchmarks import measure


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """Run with so many threads of PyTorch."""
    with measure.threads(request.param):
        yield request.param
