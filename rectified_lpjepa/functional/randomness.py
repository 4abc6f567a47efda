"""Randomness as a function: every draw of a run comes from a generator keyed by what is drawn and where.

A generator made here depends on (run seed, purpose, position) and on nothing else, never on the rank of a process or on
what was drawn before. So all processes agree without talking, each can draw only its own share, and a resumed run
continues bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

Blocks = Sequence[Callable[[], Tensor]]
"""A matrix in blocks of rows, from the first to the last, each of which is made when it is called for."""


def keyed_seed(seed: int, purpose: str, *position: int) -> int:
    """Hash a key to a seed in [0, 2⁶³).

    Args:
        seed: seed of the run.
        purpose: what is drawn, such as ``"directions"``.
        *position: where in the run, such as the step and the block.

    Returns:
        The first 63 bits of BLAKE2b over the key. CPU generators use the lower 32 of them.
    """
    key = repr((int(seed), purpose, *(int(p) for p in position))).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def keyed_generator(seed: int, purpose: str, *position: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the generator that belongs to a key, see :func:`keyed_seed`.

    Args:
        seed: seed of the run.
        purpose: what is drawn.
        *position: where in the run.
        device: where the draws are made. CPU and CUDA generators draw different numbers from the same key.

    Returns:
        A new generator on ``device``, owned by the caller.
    """
    return torch.Generator(device).manual_seed(keyed_seed(seed, purpose, *position))


def keyed_blocks(
    draw: Callable[[int, torch.Generator], Tensor],
    rows: range,
    total: int,
    block_rows: int,
    *,
    seed: int,
    purpose: str,
    step: int,
    device: torch.device | str = "cpu",
) -> Blocks:
    """Divide a random matrix into blocks, each keyed by (run seed, purpose, step, block), and give some of its rows.

    No row depends on which others are drawn, in which order, or in which thread.

    Args:
        draw: makes a block of so many rows with a generator.
        rows: the rows that are wanted, consecutive ones.
        total: number of rows of the whole matrix; the last block may have fewer than the others.
        block_rows: number of rows of a block.
        seed: seed of the run.
        purpose: what is drawn.
        step: number of the step.
        device: where the generators are.

    Returns:
        The blocks that the rows lie in, cut to them; none for no rows.
    """

    def drawn(block: int) -> Tensor:
        first = block * block_rows
        generator = keyed_generator(seed, purpose, step, block, device=device)
        return draw(min(block_rows, total - first), generator)[max(rows.start - first, 0) : rows.stop - first]

    numbers = range(rows.start // block_rows, -(-rows.stop // block_rows)) if rows else ()
    return [partial(drawn, block) for block in numbers]
