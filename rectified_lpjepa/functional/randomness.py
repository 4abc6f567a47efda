"""Randomness as a function: every draw of a run comes from a generator keyed by what is drawn and where.

A generator made here depends on (run seed, purpose, position) and on nothing else, never on the rank of a process or on
what was drawn before. So all processes agree without talking, each can draw only its own share, and a resumed run
continues bit for bit.
"""

from __future__ import annotations

import hashlib

import torch


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
