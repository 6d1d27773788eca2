"""One seed, many independent generators."""

from __future__ import annotations

import hashlib

import torch


def seeded_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a generator that depends on the seed and on what it is for, and on nothing else.

    Two purposes of one seed are independent; adding a purpose moves no other.

    Parameters
    ----------
    seed : int
        The run's seed.
    *purpose : str or int
        Words and numbers that name the use.

    Examples
    --------
    >>> from worldprobe.agents import seeded_generator
    >>> a, b = seeded_generator(0, "actions"), seeded_generator(0, "weights")
    >>> a.initial_seed() == seeded_generator(0, "actions").initial_seed(), a.initial_seed() == b.initial_seed()
    (True, False)
    """
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
