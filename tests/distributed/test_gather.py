"""Several real processes against one process on the concatenated batch.

One start of W processes runs every check and hands back what it saw; the tests compare.
"""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import run_processes
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rectified_lpjepa.distributed import AllGatherDDPStrategy, all_gather_views, current_shard
from rectified_lpjepa.objectives import Directions, RDMReg, Shard, Target

VIEWS, INPUTS, DIM = 2, 7, 6
LOCAL_BATCH = 3
OBJECTIVES = {
    "random": RDMReg(directions=Directions("random", 13)),
    "random, laplace": RDMReg(Target(p=1.0, mu=-0.5), Directions("random", 514)),
    "orthogonal": RDMReg(directions=Directions("orthogonal", 15)),
    "eigen": RDMReg(directions=Directions("eigen", 11)),
    "eigen, many": RDMReg(Target(rectified=False), Directions("eigen", 601)),
    "eigen_bottom_half": RDMReg(directions=Directions("eigen_bottom_half", 9)),
    "fewer directions than processes": RDMReg(directions=Directions("random", 1)),
}


SHAPES = [
    (shape, dtype)
    for shape in ((1, 1, 1), (1, 5, 3), (2, 1, 7), (3, 4, 1), (5, 3, 2))
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
]


def any_features(rank: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(rank), dtype=torch.float64).to(dtype)


def network() -> nn.Module:
    """The same small network everywhere, without batch normalisation, float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(INPUTS, 16), nn.Tanh(), nn.Linear(16, DIM), nn.ReLU()).double()


def inputs(world_size: int) -> torch.Tensor:
    """The global batch (V, W·B, inputs); its samples all differ."""
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(VIEWS, world_size * LOCAL_BATCH, INPUTS, generator=generator, dtype=torch.float64)


def weights_of(rank: int, world_size: int) -> torch.Tensor:
    """Any weights of the gathered features, other ones in each process."""
    generator = torch.Generator().manual_seed(100 + rank)
    return torch.randn(VIEWS, world_size * LOCAL_BATCH, DIM, generator=generator, dtype=torch.float64)


def check_everything(rank: int, world_size: int) -> dict:
    strategy = AllGatherDDPStrategy()
    shard = strategy.shard
    assert shard == current_shard() == Shard(rank, world_size)
    own = slice(rank * LOCAL_BATCH, (rank + 1) * LOCAL_BATCH)
    saw = {}

    try:
        AllGatherDDPStrategy().gather_views(torch.ones(VIEWS, LOCAL_BATCH + (rank == 1), DIM))
    except ValueError as error:
        saw["error"] = str(error)

    calls = []
    gather = dist.all_gather_into_tensor
    dist.all_gather_into_tensor = lambda *args: (calls.append(args), gather(*args))
    for batch in (LOCAL_BATCH, 1, 1, LOCAL_BATCH):
        strategy.gather_views(torch.ones(VIEWS, batch, DIM))
    dist.all_gather_into_tensor = gather
    saw["collectives"] = len(calls)

    local = inputs(world_size)[:, own, :DIM].clone().requires_grad_()
    gathered = strategy.gather_views(local)
    (gathered * weights_of(rank, world_size)).sum().backward()
    saw["gathered"], saw["gathered grad"] = gathered.detach(), local.grad
    # Not contiguous, and half precision.
    turned = inputs(world_size)[:, own, :DIM].transpose(1, 2).contiguous().transpose(1, 2).bfloat16()
    saw["gathered half"] = all_gather_views(turned)

    for shape, dtype in SHAPES:
        of_rank = [any_features(other, shape, dtype) for other in range(world_size)]
        z = of_rank[rank].requires_grad_()
        together = all_gather_views(z)
        assert torch.equal(together, torch.cat(of_rank, dim=1).to(together.dtype)), shape
        assert together.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        # Each process weights all features by its rank + 1.
        (together * (rank + 1)).sum().backward()
        assert z.grad.dtype == dtype
        assert torch.equal(z.grad, torch.full_like(z, world_size * (world_size + 1) / 2)), shape

    for name, objective in OBJECTIVES.items():
        model = DistributedDataParallel(network())
        # One local loss term besides, as the probes are: its gradient must be the global mean, too.
        z = model(inputs(world_size)[:, own])
        output = objective(z, strategy.gather_views(z), seed=3, step=5, shard=shard)
        (output.loss + z.square().mean()).backward()
        saw[name] = (
            [parameter.grad for parameter in model.parameters()],
            {"loss": output.loss.detach(), **output.parts},
        )
    return saw


@pytest.fixture(scope="module", params=[2, 4], ids="{} processes".format)
def seen(request) -> list[dict]:
    """What each process saw, by rank."""
    return run_processes(check_everything, request.param, timeout=90)


def test_features_are_gathered_in_the_order_of_the_ranks(seen):
    whole = inputs(len(seen))[..., :DIM]
    for saw in seen:
        assert torch.equal(saw["gathered"], whole)
        assert saw["gathered half"].dtype == torch.float32
        assert torch.equal(saw["gathered half"], whole.bfloat16().float())


def test_gradient_sums_what_all_processes_do_with_the_features(seen):
    total = sum(weights_of(rank, len(seen)) for rank in range(len(seen)))
    for saw, expected in zip(seen, total.split(LOCAL_BATCH, dim=1), strict=True):
        torch.testing.assert_close(saw["gathered grad"], expected, rtol=1e-14, atol=1e-14)


def test_unequal_batches_are_an_error_on_every_process(seen):
    for saw in seen:
        assert "(2, 3, 6) on rank 0, (2, 4, 6) on rank 1" in saw["error"]
        assert "HINT" in saw["error"]


def test_one_collective_each_step_and_one_more_for_the_first(seen):
    # Four gathers, and one comparison of the shapes: none for a shape that comes later, new to some processes only.
    assert [saw["collectives"] for saw in seen] == [5] * len(seen)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_parameter_gradients_equal_those_of_one_process(seen, name):
    model = network()
    z = model(inputs(len(seen)))
    output = OBJECTIVES[name](z, z, seed=3, step=5)
    (output.loss + z.square().mean()).backward()
    for gradients, _ in (saw[name] for saw in seen):
        for gradient, parameter in zip(gradients, model.parameters(), strict=True):
            assert parameter.grad.norm() > 1e-3
            assert (gradient - parameter.grad).norm() <= 1e-10 * parameter.grad.norm()
    for term, expected in {"loss": output.loss, **output.parts}.items():
        mean = np.mean([terms[term].item() for _, terms in (saw[name] for saw in seen)])
        np.testing.assert_allclose(mean, expected.item(), rtol=1e-10)


def test_processes_have_different_data_and_different_shares(seen):
    losses = [saw["random"][1]["loss"].item() for saw in seen]
    assert len(set(losses)) == len(seen)
