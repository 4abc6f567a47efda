"""Training on real processes equals training of one process on the concatenated batch: gradients, weights, statistics.

Every process sees other data. One start of W processes trains every case and hands back what it saw.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from processes import run_processes
from tiny_jepa import TINY_RESNET
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rectified_lpjepa.benchmarks.measure import threads
from rectified_lpjepa.distributed import AllGatherDDPStrategy, BatchNormSync, current_shard
from rectified_lpjepa.networks import Backbone, Projector
from rectified_lpjepa.objectives import (
    Axes,
    CrossEntropy,
    Directions,
    LeJEPA,
    NTXent,
    Objective,
    RDMReg,
    Target,
    VICReg,
    VISReg,
)
from rectified_lpjepa.optim import Optimizer

VIEWS, BATCH, DIM, STEPS = 2, 12, 10, 3
RATES = {"lars": 0.01, "adamw": 0.1}


class Case(NamedTuple):
    """One training run."""

    objective: Objective
    optimizer: Literal["lars", "adamw"] = "adamw"
    slices: Literal["sharded", "replicated"] = "sharded"
    dtype: torch.dtype = torch.float64


class Seen(NamedTuple):
    """What one process is left with."""

    gradients: list[dict[str, Tensor]]
    """Of each step."""
    state: dict[str, Tensor]
    losses: list[float]
    means: list[float]
    """Of the features of the process's own samples."""


# No number of directions is a multiple of 2 or 4.
CASES = {
    "random": Case(RDMReg(Target(), Directions("random", 37)), "lars"),
    "orthogonal": Case(RDMReg(Target(p=1.0, mu=-0.5), Directions("orthogonal", 37))),
    "eigen": Case(RDMReg(Target(p=1.0, rectified=False), Directions("eigen", 37)), "lars"),
    "eigen_bottom_half": Case(RDMReg(Target(rectified=False), Directions("eigen_bottom_half", 9))),
    "random, replicated": Case(RDMReg(Target(p=1.0, mu=-0.5), Directions("random", 37)), "adamw", "replicated"),
    "orthogonal, replicated": Case(RDMReg(Target(rectified=False), Directions("orthogonal", 37)), "lars", "replicated"),
    "eigen, replicated": Case(RDMReg(Target(), Directions("eigen", 37)), "adamw", "replicated"),
    "eigen_bottom_half, replicated": Case(
        RDMReg(Target(p=1.0), Directions("eigen_bottom_half", 9)), "lars", "replicated"
    ),
    "axes": Case(RDMReg(Target(), Directions("random", 9), axes=Axes(weight=0.5)), "lars"),
    "some axes, replicated": Case(
        RDMReg(Target(p=1.0, mu=-0.5), Directions("random", 9), axes=Axes(weight=0.5, num=7)), "adamw", "replicated"
    ),
    "float32": Case(RDMReg(Target(p=1.0), Directions("random", 37)), "lars", dtype=torch.float32),
    "LeJEPA": Case(LeJEPA(Directions("eigen", 37), weight=0.5)),
    "LeJEPA, replicated": Case(LeJEPA(Directions("random", 37)), "adamw", "replicated"),
    "VICReg": Case(VICReg(), "lars"),
    "VICReg, replicated": Case(VICReg(), "adamw", "replicated"),
    "NT-Xent": Case(NTXent()),
    "NT-Xent, replicated": Case(NTXent(), "lars", "replicated"),
    "VISReg": Case(VISReg(Directions("random", 37)), "adamw"),
    "VISReg, replicated": Case(VISReg(Directions("eigen", 37)), "adamw", "replicated"),
    "cross-entropy": Case(CrossEntropy(), "adamw"),
}
PER_RANK = {
    kind: Case(RDMReg(Target(p=p, mu=-0.5), Directions(kind, 37), matching="per_rank"), optimizer)
    for kind, p, optimizer in (("random", 1.0, "lars"), ("orthogonal", 2.0, "adamw"), ("eigen", 1.0, "adamw"))
}


class TwoPasses(nn.Module):
    """A residual network and a projector, both with batch norm, that see one view at a time."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.backbone = Backbone(kwargs=TINY_RESNET).build(16, 1)
            self.projector = Projector(hidden_dim=16, out_dim=DIM).build(16)
        # The gradient of a bias before a batch norm vanishes, and AdamW makes steps of what rounding leaves of it.
        for layer in (0, 3):
            self.projector[layer].bias.requires_grad_(False)

    def forward(self, views: Tensor) -> Tensor:
        return torch.stack([self.projector(self.backbone(images)) for images in views]).relu()


def views(step: int, dtype: torch.dtype) -> Tensor:
    """The global batch (V, B, 1, 16, 16): two noisy views of images that all differ."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(BATCH, 1, 16, 16, generator=generator, dtype=torch.float64)
    return (images + 0.5 * torch.randn(VIEWS, *images.shape, generator=generator, dtype=torch.float64)).to(dtype)


def labels(step: int) -> Tensor:
    """The classes (B,) of the global batch."""
    return torch.randint(DIM, (BATCH,), generator=torch.Generator().manual_seed(step))


def train(case: Case, loss_of_all: Any = None) -> Seen:
    """Train as one of however many processes there are; with a loss of the global features in place of the case's."""
    place, strategy = current_shard(), AllGatherDDPStrategy(slices=case.slices)
    network = TwoPasses().to(case.dtype)
    model: Any = network
    if place.world_size > 1:
        model = DistributedDataParallel(BatchNormSync().apply(network))
        model.broadcast_buffers = False
    settings = Optimizer(case.optimizer, lr=RATES[case.optimizer], weight_decay=0.01, warmup_epochs=0)
    optimizer, scheduler = settings.build(
        {"backbone": network.backbone, "projector": network.projector},
        {},
        total_batch=BATCH,
        total_steps=STEPS + 1,
        steps_per_epoch=STEPS + 1,
    )
    rows = place.rows(BATCH)
    own = slice(rows.start, rows.stop)
    seen = Seen([], network.state_dict(), [], [])
    for step in range(STEPS):
        z = model(views(step, case.dtype)[:, own])
        if loss_of_all is not None:
            loss = loss_of_all(case.objective, z, step)
        elif case.objective.needs_gathering:
            gathered = strategy.gather_views(z)
            loss = case.objective(z, gathered, seed=3, step=step, shard=strategy.shard).loss
        else:
            loss = case.objective(z, z, seed=3, step=step, shard=place, labels=labels(step)[own]).loss
        optimizer.zero_grad()
        loss.backward()
        seen.gradients.append({name: p.grad.clone() for name, p in network.named_parameters() if p.requires_grad})
        seen.losses.append(loss.item())
        seen.means.append(z.mean().item())
        optimizer.step()
        scheduler.step()
    return seen


def train_all(rank: int, world_size: int) -> dict[str, Seen]:
    return {name: train(case) for name, case in (CASES | {f"per rank, {k}": v for k, v in PER_RANK.items()}).items()}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small take longer with more."""
    with threads(1):
        yield


@functools.cache
def alone(name: str) -> Seen:
    """What one process is left with."""
    return train(CASES[name])


@pytest.fixture(scope="module", params=[1, 2, 4], ids="{} processes".format)
def seen(request: pytest.FixtureRequest) -> list[dict[str, Seen]]:
    """What each process saw, by rank."""
    return run_processes(train_all, request.param, timeout=150)


def vector(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()])


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Compare in norm, all together and, in double precision, each tensor by itself."""
    assert list(found) == list(expected)
    pairs = {"all": (vector(found), vector(expected))}
    if tolerance < 1e-6:
        pairs |= {name: (found[name].double(), value.double()) for name, value in expected.items()}
    errors = {name: float((one - other).norm() / other.norm()) for name, (one, other) in pairs.items()}
    assert {name: error for name, error in errors.items() if error > tolerance} == {}


def assert_trained_equally(processes: list[Seen], expected: Seen, tolerance: float) -> None:
    start, frozen = TwoPasses().state_dict(), {"projector.0.bias", "projector.3.bias"}
    for name, value in expected.state.items():
        moved = float((value - start[name]).double().norm() / (1e-9 + start[name].double().norm()))
        assert moved > 1e-4 or name in frozen, name
    for process in processes:
        for gradients, expected_gradients in zip(process.gradients, expected.gradients, strict=True):
            assert_equal(gradients, expected_gradients, tolerance)
        for running in (False, True):  # weights, then running statistics
            found, wanted = (
                {name: value for name, value in state.items() if ("running" in name or "num" in name) == running}
                for state in (process.state, expected.state)
            )
            assert_equal(found, wanted, tolerance)


@pytest.mark.parametrize("name", CASES)
def test_gathered_features_train_as_one_process(seen: list[dict[str, Seen]], name: str) -> None:
    case = CASES[name]
    expected = alone(name)
    processes = [of_rank[name] for of_rank in seen]
    assert_trained_equally(processes, expected, 1e-10 if case.dtype == torch.float64 else 1e-3)
    losses = np.array([process.losses for process in processes])
    np.testing.assert_allclose(losses.mean(0), expected.losses, rtol=1e-10 if case.dtype == torch.float64 else 1e-5)
    assert len({process.means[0] for process in processes}) == len(seen), "every process has data of its own"


def per_rank_in_plain_words(objective: RDMReg, z: Tensor, step: int, world_size: int) -> Tensor:
    """The mean over the ranks of each one's loss on its own rows, by sorting, along all directions."""
    batch = BATCH // world_size
    blocks = objective.target.blocks(BATCH, DIM, seed=3, step=step, dtype=z.dtype, device=z.device)
    sample = torch.cat([block() for block in blocks])
    losses = []
    for rank in range(world_size):
        rows = slice(rank * batch, (rank + 1) * batch)
        own = z[:, rows]
        drawn = [block() for block in objective.directions.draw(own.detach(), seed=3, step=step)]
        directions = torch.cat([part.expand(VIEWS, *part.shape[-2:]) for part in drawn], dim=1)
        projected = torch.einsum("vbd,vnd->vnb", own, directions).sort().values
        targets = torch.einsum("bd,vnd->vnb", sample[rows], directions).sort().values
        losses.append(25 * (own[0] - own[1]).square().mean() + 125 * (projected - targets).square().mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("kind", PER_RANK)
def test_matching_per_rank_is_what_it_says(seen: list[dict[str, Seen]], kind: str) -> None:
    expected = train(PER_RANK[kind], lambda *args: per_rank_in_plain_words(*args, len(seen)))
    assert_trained_equally([of_rank[f"per rank, {kind}"] for of_rank in seen], expected, 1e-10)
