import pytest
import torch


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """Run with so many threads of PyTorch."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
