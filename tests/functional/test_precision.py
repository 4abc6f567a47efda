"""Products in full float32, whatever the user has set and also under autocast."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rectified_lpjepa.functional.precision import at_least_float32, full_precision, matmul

CPU = torch.device("cpu")


@pytest.fixture
def reduced_precision():
    """Ask for the fastest, least precise float32 products, as a user may."""
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


def settings() -> tuple[str, str]:
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision


class RecordProducts(TorchDispatchMode):
    """Record the settings and autocast at each matrix product, and the dtype of its result."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm):
            self.seen.append((*settings(), result.dtype))
        return result


def test_settings_are_full_inside_and_restored_even_after_an_error(reduced_precision):
    before = settings()
    assert before == ("tf32", "bf16")

    def fail_inside():
        with torch.autocast("cpu", torch.bfloat16), full_precision(CPU):
            assert settings() == ("ieee", "ieee")
            assert not torch.is_autocast_enabled("cpu")
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail_inside()
    assert settings() == before
    assert torch.get_float32_matmul_precision() == "medium"


def test_products_are_full_precision_forward_and_in_two_backward_passes(reduced_precision):
    left = torch.randn(5, 4, requires_grad=True)
    right = torch.randn(2, 4, 3, requires_grad=True)
    with RecordProducts() as record, torch.autocast("cpu", torch.bfloat16):
        (grad,) = torch.autograd.grad(matmul(left, right).square().sum(), left, create_graph=True)
        grad.square().sum().backward()
    assert len(record.seen) > 4
    assert set(record.seen) == {("ieee", "ieee", torch.float32)}


@pytest.mark.parametrize(
    ("left", "right"), [((5, 4), (4, 3)), ((5, 4), (2, 4, 3)), ((2, 5, 4), (4, 3)), ((2, 5, 4), (2, 4, 3))]
)
def test_gradients_with_broadcasting(left, right):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in (left, right)]
    torch.testing.assert_close(matmul(*inputs), inputs[0] @ inputs[1])
    assert torch.autograd.gradcheck(matmul, inputs)
    assert torch.autograd.gradgradcheck(matmul, inputs)


def test_dtype_to_compute_in():
    half, single, double = (torch.ones((), dtype=d) for d in (torch.float16, torch.float32, torch.float64))
    assert at_least_float32(half, torch.ones((), dtype=torch.bfloat16)) == torch.float32
    assert at_least_float32(single, half) == torch.float32
    assert at_least_float32(half, double) == torch.float64
