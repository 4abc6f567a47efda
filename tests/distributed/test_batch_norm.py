"""Batch norm over real processes against torch's on the concatenated batch.

One start of processes runs every case and hands back what it saw; the tests compare.
"""

import copy
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from processes import run_processes
from timm.layers import BatchNormAct2d
from timm.layers.split_batchnorm import SplitBatchNorm2d
from torch import nn

from rectified_lpjepa.distributed import BatchNormSync
from rectified_lpjepa.distributed.batch_norm import synchronised_batch_norm

BATCHES = (3, 5)  # samples of each process


class Case(NamedTuple):
    layer: nn.Module
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    input_dtype: torch.dtype | None = None
    offset: float = 0.5

    def inputs(self, step: int) -> torch.Tensor:
        """All processes' batches, one behind the other."""
        generator = torch.Generator().manual_seed(step)
        scale = torch.arange(1, self.shape[0] + 1).view(-1, *[1] * (len(self.shape) - 1))
        x = torch.randn(sum(BATCHES), *self.shape, generator=generator, dtype=torch.float64)
        return (x * scale + self.offset).to(self.input_dtype or self.dtype)

    def gradients(self, step: int) -> torch.Tensor:
        return self._replace(offset=0.5).inputs(step + 100)


def with_weights(layer: Any) -> Any:
    """Affine parameters and running statistics that are none of the defaults."""
    generator = torch.Generator().manual_seed(7)
    for value in [*layer.parameters(), *layer.buffers()]:
        if value.is_floating_point():
            value.data.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return layer


CASES = {
    "(B, C)": Case(nn.BatchNorm1d(4), (4,)),
    "(B, C, L)": Case(nn.BatchNorm1d(4), (4, 7)),
    "(B, C, H, W)": Case(nn.BatchNorm2d(4, eps=1e-3, momentum=0.3), (4, 3, 5)),
    "(B, C, D, H, W)": Case(nn.BatchNorm3d(2), (2, 3, 4, 2)),
    "cumulative average": Case(nn.BatchNorm2d(4, momentum=None), (4, 3, 5)),
    "without affine parameters": Case(nn.BatchNorm2d(4, affine=False), (4, 3, 5)),
    "without running statistics": Case(nn.BatchNorm2d(4, track_running_stats=False), (4, 3, 5)),
    "timm's with its activation": Case(BatchNormAct2d(4), (4, 3, 5)),
    "timm's with dropping": Case(BatchNormAct2d(4, drop_layer=nn.Tanh, act_layer=nn.SiLU, inplace=False), (4, 3, 5)),
    "float32": Case(nn.BatchNorm2d(4), (4, 9, 5), torch.float32),
    "float32, far from 0": Case(nn.BatchNorm2d(4), (4, 9, 5), torch.float32, offset=3e3),
    "bfloat16 batch": Case(nn.BatchNorm2d(4), (4, 9, 5), torch.float32, torch.bfloat16),
}
TOLERANCES = {torch.int64: 0.0, torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 2e-2}
PLAIN = "(B, C, H, W)"


def run(case: Case, own: slice, *, synchronised: bool, exact: bool = False) -> dict[str, torch.Tensor]:
    """Two training steps and an evaluation, on a slice of the batch; in float64 if exact."""
    layer = with_weights(copy.deepcopy(case.layer).to(torch.float64 if exact else case.dtype))
    keys = list(layer.state_dict())
    if synchronised:
        assert BatchNormSync().apply(layer) is layer
        assert type(layer) is not type(case.layer)
        assert isinstance(layer, type(case.layer))
        assert list(layer.state_dict()) == keys
    saw = {}
    for step in range(2):
        x, grad = case.inputs(step)[own], case.gradients(step)[own]
        if exact:
            x, grad = x.double(), grad.double()
        y = layer(x.requires_grad_())
        y.backward(grad)
        assert y.dtype == x.grad.dtype == x.dtype
        saw |= {f"output {step}": y.detach(), f"gradient {step}": x.grad}
    if layer.track_running_stats:
        x = case.inputs(0)[own]
        saw["evaluated"] = layer.eval()(x.double() if exact else x).detach()
    saw |= {f"gradient of {name}": parameter.grad for name, parameter in layer.named_parameters()}
    saw |= {name: value.clone() for name, value in layer.named_buffers()}
    if synchronised:
        assert BatchNormSync().revert(layer) is layer
        assert type(layer) is type(case.layer)
    return saw


def work(rank: int, world_size: int) -> dict[str, Any]:
    own = slice(sum(BATCHES[:rank]), sum(BATCHES[: rank + 1]))
    saw: dict[str, Any] = {name: run(case, own, synchronised=True) for name, case in CASES.items()}

    calls = []
    for name in ("all_gather_into_tensor", "all_reduce"):
        original = getattr(dist, name)
        setattr(
            dist, name, lambda *args, original=original, name=name: (calls.append((name, args)), original(*args))[1]
        )
    run(CASES[PLAIN], own, synchronised=True)
    saw["collectives"] = [(name, args[-1].numel()) for name, args in calls]

    layer = BatchNormSync().apply(
        nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    )
    x = torch.randn(2, 4, 3, 5).to(memory_format=torch.channels_last).requires_grad_()
    y = layer[1](x)
    y.backward(torch.ones(2, 4, 3, 5))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert x.grad.is_contiguous(memory_format=torch.channels_last)

    before = calls.copy()
    with torch.no_grad():
        layer.eval()[1](x)
    assert calls == before, "evaluation talks to other processes"

    saw["errors"] = []
    layer = BatchNormSync().apply(nn.BatchNorm2d(4))
    try:
        layer(torch.ones(2, 4))
    except ValueError as error:
        saw["errors"].append(str(error))

    layer = BatchNormSync().apply(with_weights(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())).double())
    expected = layer(CASES[PLAIN].inputs(0)[own])
    layer.compile(backend="eager")
    torch.testing.assert_close(layer(CASES[PLAIN].inputs(0)[own]), expected)
    return saw


@pytest.fixture(scope="module")
def seen() -> list[dict[str, Any]]:
    return run_processes(work, len(BATCHES), timeout=90)


@pytest.mark.parametrize("name", CASES)
def test_equals_torch_on_the_whole_batch(seen: list[dict[str, Any]], name: str) -> None:
    case = CASES[name]
    expected = run(case, slice(None), synchronised=False, exact=True)
    assert [saw[name].keys() for saw in seen] == [expected.keys()] * len(BATCHES)
    for key, value in expected.items():
        per_process = [saw[name][key] for saw in seen]
        if key.startswith("gradient of"):  # each process's own part of the sum
            found = [sum(per_process)]
        elif key in dict(case.layer.named_buffers()):
            found = per_process
        else:
            found = [torch.cat(per_process)]
        for tensor in found:
            tolerance = TOLERANCES[tensor.dtype] * (100 if case.offset > 1 else 1)
            assert (tensor.double() - value).norm() <= tolerance * value.double().norm(), key


def test_two_small_collectives_a_step(seen: list[dict[str, Any]]) -> None:
    # 4 channels: mean, variance and the number of values; then two sums.
    for saw in seen:
        assert saw["collectives"] == [("all_gather_into_tensor", 9), ("all_reduce", 8)] * 2


def test_wrong_shapes_are_torchs_error(seen: list[dict[str, Any]]) -> None:
    assert [saw["errors"] for saw in seen] == [["expected 4D input (got 2D input)"]] * 2


@pytest.mark.parametrize("name", CASES)
def test_one_process_is_torchs_bit_for_bit(name: str) -> None:
    expected = run(CASES[name], slice(None), synchronised=False)
    found = run(CASES[name], slice(None), synchronised=True)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_layers_stay_the_objects_they_are() -> None:
    model = nn.ModuleDict({"a": nn.Sequential(nn.BatchNorm1d(2), nn.InstanceNorm2d(2)), "b": BatchNormAct2d(3)})
    held = list(model.modules())
    types = [type(module) for module in held]
    parameters = list(model.parameters())
    calls = []
    model["a"][0].register_forward_hook(lambda *_: calls.append(1))
    BatchNormSync().apply(model)
    assert [a is b for a, b in zip(model.modules(), held, strict=True)] == [True] * len(held)
    assert [a is b for a, b in zip(model.parameters(), parameters, strict=True)] == [True] * len(parameters)
    changed = [type(module) is not type_ for module, type_ in zip(held, types, strict=True)]
    assert changed == [False, False, True, False, True, False, False]
    model["a"][0](torch.randn(3, 2))
    assert calls == [1]
    # A second call changes nothing, and copies stay synchronised.
    assert [type(m) for m in BatchNormSync().apply(copy.deepcopy(model)).modules()] == [type(m) for m in held]
    BatchNormSync().revert(model)
    assert [type(module) for module in held] == types


def test_unknown_batch_norms_are_refused() -> None:
    with pytest.raises(TypeError, match=r"layer 0 is a SplitBatchNorm2d.*HINT.*sync_batchnorm false"):
        BatchNormSync().apply(nn.Sequential(SplitBatchNorm2d(4)))
    torchs = nn.SyncBatchNorm(4)
    assert type(BatchNormSync().apply(torchs)) is nn.SyncBatchNorm


# ------------------------------------------------------------------------------------------------------------ CUDA


def work_on_cuda(rank: int, world_size: int) -> dict[str, list[torch.Tensor]]:
    """Ours, and torch's, on one GPU that both processes use."""
    saw = {}
    for name in ("ours", "torch's"):
        layer = with_weights(nn.BatchNorm2d(4)).cuda()
        x = torch.randn(3 + rank, 4, 9, 5, generator=torch.Generator().manual_seed(rank)).cuda().requires_grad_()
        if name == "ours":
            y = synchronised_batch_norm(
                x, layer.running_mean, layer.running_var, layer.weight, layer.bias, momentum=0.1, eps=layer.eps
            )
        else:
            y = BatchNormSync().apply(layer)(x)
        (y * torch.arange(y.numel(), device="cuda").view_as(y).cos()).sum().backward()
        saw[name] = [y, x.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var]
        saw[name] = [tensor.detach().cpu() for tensor in saw[name]]
    return saw


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_equals_torchs_own_on_cuda() -> None:
    for saw in run_processes(work_on_cuda, 2, timeout=120):
        for ours, torchs in zip(saw["ours"], saw["torch's"], strict=True):
            torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-5)
