"""What more processes save and what they send, for one global batch: projecting and sorting, target, features.

rectified-lpjepa benchmark processes
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from rectified_lpjepa.benchmarks.exchange import Exchange, bytes_sent
from rectified_lpjepa.benchmarks.group import run_group
from rectified_lpjepa.benchmarks.loss import Inputs, Size
from rectified_lpjepa.benchmarks.measure import Timings, choose_device, threads, time_in_turn
from rectified_lpjepa.benchmarks.report import Cell, report
from rectified_lpjepa.distributed import all_gather_views
from rectified_lpjepa.functional import sliced_wasserstein
from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.machine import available_cores
from rectified_lpjepa.objectives import Directions, RDMReg, Shard, Target

SHARE_BASELINE = (
    "one process with one thread and all directions, which is also what each of W processes does where the slices are "
    "replicated; distance: drawing the rank's own directions, projecting and sorting features and target, value and "
    "gradient, the slowest rank's, the ranks' shares computed in turn in one process so that none takes a core or "
    "memory bandwidth from another; target: drawn whole by every rank; sent: the features' all-gather and their "
    "gradients' reduce-scatter, float32, for each rank and step"
)
STEP_BASELINE = (
    "one process with one thread and the whole batch; the others are real processes with one thread each that hold "
    "features, gather them, compute the objective and send the gradients back; a step ends where the first process's "
    "does"
)
SEED, STEP = 0, 0
MIB = 2**20
ONE, SHARDED, REPLICATED = "one process", "sharded slices", "replicated slices"
COLLECTIVES, ALL_REDUCE = "its collectives alone", "the same with an all-reduce backward"
WHOLE_TARGET, SHARED_TARGET = "drawing the target", "drawing shares of it and gathering them"


class Seen(NamedTuple):
    """What a process of a group reports."""

    sent: int
    """Bytes sent for the features and their gradients in one step."""
    sent_by_all_reduce: int
    """The same, had the gradients been all-reduced."""
    timings: Timings | None
    """Seconds of the sides, as this process saw them; None if there was not a core, or a GPU, for each process."""


class Group:
    """One process of W: its features, and what is timed in them.

    Args:
        size: batch of all processes together, features, directions.
        views: number of views.
        shard: which process it is.
        device: where it computes.
    """

    def __init__(self, size: Size, views: int, shard: Shard, device: torch.device) -> None:
        self.size, self.shard, self.device = size, shard, device
        self.whole = features(size, views, device)
        rows = shard.rows(size.batch)
        self._own_rows = slice(rows.start, rows.stop)
        self.own = self.whole.detach()[:, self._own_rows].clone().requires_grad_()
        self.objective = make_objective(size.directions)

    def one(self) -> None:
        """Step of a single process, on the first one while the others wait in the collective that follows."""
        if self.shard.rank == 0:
            self.whole.grad = None
            self.objective(self.whole, self.whole, seed=SEED, step=STEP).loss.backward()

    def sharded(self) -> None:
        """Step with a share of the directions."""
        self.own.grad = None
        gathered = all_gather_views(self.own)
        self.objective(self.own, gathered, seed=SEED, step=STEP, shard=self.shard).loss.backward()

    def replicated(self) -> None:
        """Step with all directions."""
        self.own.grad = None
        gathered = all_gather_views(self.own)
        self.objective(gathered, gathered, seed=SEED, step=STEP).loss.backward()

    def collectives(self) -> None:
        """What a step sends and nothing else."""
        self.own.grad = None
        all_gather_views(self.own).backward(self.whole.detach())

    def all_reduce(self) -> None:
        """What a step would send whose backward pass adds up the gradients of all features on all processes."""
        all_gather_views(self.own.detach())
        gradient = self.whole.detach().clone()
        dist.all_reduce(gradient)
        self.own.grad = gradient[:, self._own_rows]

    def whole_target(self) -> Tensor:
        """Draw the target as every process does."""
        return draw_target(self.objective.target, self.size, self.device)

    def shared_target(self) -> Tensor:
        """Draw this process's rows of a target and gather those of the others."""
        generator = keyed_generator(SEED, "target", STEP, self.shard.rank, device=self.device)
        own = self.objective.target.sample((self.own.shape[1], self.size.dim), generator=generator)
        gathered: Tensor = own.new_empty(self.size.batch, self.size.dim)
        dist.all_gather_into_tensor(gathered, own)
        return gathered


def make_objective(num: int) -> RDMReg:
    """Make the objective that is measured: p = 2, μ = 0, random directions."""
    return RDMReg(Target(p=2.0), Directions("random", num))


def features(size: Size, views: int, device: torch.device) -> Tensor:
    """Draw features (V, B, D) of the global batch, the same in every process."""
    drawn = Inputs.draw(Size(views * size.batch, size.dim, 1), device).z[0]
    return drawn.detach().view(views, size.batch, size.dim).requires_grad_()


def draw_target(target: Target, size: Size, device: torch.device) -> Tensor:
    """Draw the target's sample (B, D) of a step."""
    blocks = target.blocks(size.batch, size.dim, seed=SEED, step=STEP, dtype=torch.float32, device=device)
    return torch.cat([draw() for draw in blocks])


def share_of_distance(z: Tensor, target: Tensor, objective: RDMReg, shard: Shard) -> None:
    """Compute one process's share of the distance of the gathered features, value and gradient."""
    z.grad = None
    directions = objective.directions.draw(z, seed=SEED, step=STEP, shard=shard)
    sliced_wasserstein(z, target, directions, num_directions=objective.directions.num).backward()


def processes(
    processes: tuple[int, ...] = (1, 2, 4),
    views: int = 2,
    batch: int = 256,
    dim: int = 512,
    directions: int = 8192,
    repeats: int = 7,
    device: str = "auto",
    out: str = "runs/benchmarks",
) -> None:
    """Time the share of each of several processes in the objective at a fixed global batch, and count what they send.

    Where there are as many cores (or GPUs), also whole steps of the objective in real processes, against one process.

    Args:
        processes: numbers of processes.
        views: number of views of each image.
        batch: samples of all processes together, a multiple of each number of processes.
        dim: number of features.
        directions: number of directions of all processes together.
        repeats: rounds that count.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is a GPU.
        out: folder for the JSON files.

    Raises:
        ValueError: a number of processes is below 1 or does not divide the batch, or ``repeats`` is below 1.
    """
    for count in processes:
        if count < 1 or batch % count:
            raise ValueError(
                f"processes are {', '.join(map(str, processes))} and the batch is {batch}. Each process takes an equal "
                "share of the batch. HINT: make the batch a multiple of each number of processes."
            )
    place, size = choose_device(device), Size(batch, dim, directions)
    with threads(1):
        timings = _time_shares(processes, size, views, repeats, place)
        seen = {count: _run_group(count, size, views, repeats, place) for count in processes if count > 1}
        rows = [_share_row(count, timings, seen.get(count), size, views) for count in processes]
        report("processes", SHARE_BASELINE, rows, device=place, out=out, conclusion=_conclusion(timings, processes))
        rows = [row for count, saw in seen.items() if saw.timings for row in _step_rows(count, saw.timings, size)]
        if rows:
            print()  # noqa: T201
            report("processes-step", STEP_BASELINE, rows, device=place, out=out)


def _time_shares(processes: tuple[int, ...], size: Size, views: int, repeats: int, device: torch.device) -> Timings:
    """Time the shares of all ranks in turn: sides ``distance W`` with the slowest rank's seconds, and ``target``."""
    objective, z = make_objective(size.directions), features(size, views, device)
    target = draw_target(objective.target, size, device)
    shards = {count: [Shard(rank, count) for rank in range(count)] for count in {1, *processes}}
    sides: dict[str, Callable[[], object]] = {"target": partial(draw_target, objective.target, size, device)}
    for shard in (shard for ranks in shards.values() for shard in ranks):
        sides[str(shard)] = partial(share_of_distance, z, target, objective, shard)
    rounds = time_in_turn(sides, repeats=repeats, device=device).rounds
    slowest = {
        f"distance {count}": [max(ranks) for ranks in zip(*(rounds[str(shard)] for shard in of_count), strict=True)]
        for count, of_count in shards.items()
    }
    return Timings({"target": rounds["target"], **slowest})


def _run_group(count: int, size: Size, views: int, repeats: int, device: torch.device) -> Seen:
    """Start so many processes; they are timed only if each has a core, or a GPU, of its own."""
    on_gpus = device.type == "cuda" and torch.cuda.device_count() >= count
    is_timed = on_gpus or (device.type == "cpu" and available_cores() >= count)
    backend = "nccl" if on_gpus else "gloo"
    seen: list[Seen] = run_group(see, count, size, views, repeats if is_timed else 0, on_gpus, backend=backend)
    return seen[0]


def see(rank: int, world_size: int, size: Size, views: int, repeats: int, on_gpus: bool) -> Seen:
    """Count what a process sends in a step, and time its steps if ``repeats`` is not 0."""
    device = torch.device("cuda", rank) if on_gpus else torch.device("cpu")
    group = Group(size, views, Shard(rank, world_size), device)
    with Exchange() as ours:
        group.sharded()
    with Exchange() as with_all_reduce:
        group.all_reduce()
    sides = {
        ONE: group.one,
        SHARDED: group.sharded,
        REPLICATED: group.replicated,
        COLLECTIVES: group.collectives,
        ALL_REDUCE: group.all_reduce,
        WHOLE_TARGET: group.whole_target,
        SHARED_TARGET: group.shared_target,
    }
    timings = time_in_turn(sides, repeats=repeats, device=device) if repeats else None
    return Seen(ours.sent, with_all_reduce.sent, timings)


def _share_row(count: int, timings: Timings, seen: Seen | None, size: Size, views: int) -> dict[str, Cell]:
    own, whole = f"distance {count}", "distance 1"
    totals = {
        side: [a + b for a, b in zip(timings.rounds[side], timings.rounds["target"], strict=True)]
        for side in {own, whole}
    }
    sent = 2 * bytes_sent(views, size.batch, size.dim, count)
    return {
        "W": count,
        "B, D, N": ", ".join(map(str, size)),
        "distance s": timings.seconds(own),
        "of one process": timings.ratio(own, whole),
        "1 / W": 1 / count,
        "target s": timings.seconds("target"),
        "target / distance": timings.ratio("target", own),
        "replicated / sharded": Timings(totals).ratio(whole, own),
        "sent MiB": sent / MIB,
        "counted MiB": seen.sent / MIB if seen else 0.0,
        "with all-reduce MiB": seen.sent_by_all_reduce / MIB if seen else 0.0,
    }


def _step_rows(count: int, timings: Timings, size: Size) -> list[dict[str, Cell]]:
    return [
        {
            "W": count,
            "B, D, N": ", ".join(map(str, size)),
            "what": side,
            "ms": Timings({side: [1000 * seconds for seconds in timings.rounds[side]]}).seconds(side),
            "of one process": timings.ratio(side, ONE),
        }
        for side in timings.rounds
    ]


def _conclusion(timings: Timings, processes: tuple[int, ...]) -> str:
    most = max(processes)
    own = f"distance {most}"
    return (
        f"Of {most} processes the slowest projects and sorts in {timings.ratio(own, 'distance 1').median:.3f} of one "
        f"process's time (1 / W is {1 / most:.3f}); drawing the whole target takes each of them "
        f"{timings.ratio('target', own).median:.1%} of that."
    )
