"""Distances of features to their target, and their noise floor: what two samples of the target have.

Shape suffixes: N samples, D features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.evaluation.features import Subject
from rectified_lpjepa.evaluation.sampling import draw_positions
from rectified_lpjepa.functional.directions import eigen_directions, random_directions
from rectified_lpjepa.functional.max_sliced import ascend_directions, projected_wasserstein
from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.functional.sliced_wasserstein import sliced_wasserstein


@dataclass(frozen=True)
class _Targets:
    """Samples of a target, (samples, dim): drawn on the CPU, hence the same on any device and whenever they are drawn.

    Two are equal where all that decides the samples is. Runs of one target have the same noise floor, which takes most
    of the time and is measured once.
    """

    law: Law = field(compare=False)
    samples: int
    dim: int
    seed: int
    device: torch.device
    identity: tuple[object, ...] = field(init=False)

    def __post_init__(self) -> None:
        law = self.law
        identity = (type(law), law.p.dtype, float(law.p), float(law.loc), float(law.scale))
        object.__setattr__(self, "identity", identity)

    def draw(self, number: int, which: int) -> Tensor:
        """Return one of the pair (0 or 1) of samples of this number, float32."""
        generator = keyed_generator(self.seed, "target of an evaluation", number, which)
        return self.law.sample((self.samples, self.dim), generator=generator).to(self.device)


@dataclass(frozen=True)
class _Search:
    """How the direction of the largest distance is sought, see :func:`largest_distance`."""

    directions: int
    starts: int
    steps: int


def _drawn(z_ND: Tensor, law: Law, samples: int, subject: Subject) -> tuple[Tensor, _Targets]:
    """Draw some of the features, and say which samples of the target they are compared with."""
    rows = draw_positions(len(z_ND), samples, seed=subject.seed, purpose="samples for sliced distances")
    targets = _Targets(law, len(rows), z_ND.shape[1], subject.seed, subject.device)
    return z_ND[rows].to(subject.device), targets


def sliced_distance(
    z_ND: Tensor, law: Law, subject: Subject, *, samples: int, directions: int, draws: int
) -> dict[str, float]:
    """Measure the squared sliced 2-Wasserstein distance to the target along random directions, and its floor.

    Args:
        z_ND: features behind the rectifier, floating point.
        law: the target of each feature.
        subject: says seed and device.
        samples: features of how many samples are compared at most.
        directions: number of random directions.
        draws: samples of the target, over which is averaged, and pairs of them behind the floor; two at least.

    Returns:
        ``sliced_w2``, ``sliced_w2_floor`` and ``sliced_w2_floor_std``.
    """
    drawn_ND, targets = _drawn(z_ND, law, samples, subject)
    held_out = _held_out(targets, directions)
    distances = [sliced_wasserstein(drawn_ND.unsqueeze(0), targets.draw(draw, 0), held_out) for draw in range(draws)]
    return _against_floor("sliced_w2", distances, _sliced_floor(targets, directions, draws))


@cache
def _sliced_floor(targets: _Targets, directions: int, draws: int) -> tuple[float, float]:
    held_out = _held_out(targets, directions)
    return _floor(
        [
            sliced_wasserstein(targets.draw(draw, 1).unsqueeze(0), targets.draw(draw, 0), held_out)
            for draw in range(draws)
        ]
    )


def _held_out(targets: _Targets, directions: int) -> Tensor:
    generator = keyed_generator(targets.seed, "directions of an evaluation")
    return random_directions(directions, targets.dim, generator=generator).to(targets.device)


def largest_distance(
    z_ND: Tensor, law: Law, subject: Subject, *, samples: int, directions: int, draws: int, starts: int, steps: int
) -> dict[str, float]:
    """Seek the direction of the largest distance on one half, and measure it on the other; so for the target itself.

    Args:
        z_ND: features behind the rectifier, floating point.
        law: the target of each feature.
        subject: says seed and device.
        samples: features of how many samples are compared at most.
        directions: random directions among the candidates.
        draws: pairs of samples of the target behind the floor; two at least.
        starts: candidates from which is sought.
        steps: steps of gradient ascent of each.

    Returns:
        ``largest_w2``, ``largest_w2_floor`` and ``largest_w2_floor_std``: squared 2-Wasserstein distances.
    """
    drawn_ND, targets = _drawn(z_ND, law, samples, subject)
    search = _Search(directions, starts, steps)
    distance = _largest_distance(drawn_ND, targets.draw(0, 0), search, targets.seed)
    return _against_floor("largest_w2", [distance], _largest_floor(targets, search, draws))


@cache
def _largest_floor(targets: _Targets, search: _Search, draws: int) -> tuple[float, float]:
    return _floor(
        [_largest_distance(targets.draw(draw, 1), targets.draw(draw, 0), search, targets.seed) for draw in range(draws)]
    )


def _floor(distances: list[Tensor]) -> tuple[float, float]:
    """Return mean and standard deviation."""
    values = torch.stack(distances).double()
    return float(values.mean()), float(values.std())


def _against_floor(name: str, distances: list[Tensor], floor: tuple[float, float]) -> dict[str, float]:
    return {
        name: float(torch.stack(distances).double().mean()),
        f"{name}_floor": floor[0],
        f"{name}_floor_std": floor[1],
    }


def _largest_distance(z_ND: Tensor, y_ND: Tensor, search: _Search, seed: int) -> Tensor:
    half, dim = len(z_ND) // 2, z_ND.shape[1]
    order = torch.randperm(len(z_ND), generator=keyed_generator(seed, "halves")).to(z_ND.device)
    seen, held_out = order[:half], order[half : 2 * half]
    generator = keyed_generator(seed, "candidate directions")
    random = random_directions(search.directions, dim, generator=generator).to(z_ND.device)
    axes = torch.eye(dim, device=z_ND.device)
    candidates = torch.cat([random, axes, eigen_directions(z_ND[seen].unsqueeze(0))[0]])
    first = projected_wasserstein(z_ND[seen], y_ND[seen], candidates)
    best = candidates[first.topk(min(search.starts, len(first))).indices]
    found = ascend_directions(z_ND[seen], y_ND[seen], best, steps=search.steps)
    winner = projected_wasserstein(z_ND[seen], y_ND[seen], found).argmax()
    return projected_wasserstein(z_ND[held_out], y_ND[held_out], found[winner].unsqueeze(0))[0]
