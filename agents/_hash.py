"""Chance without a generator: numbers that are a fixed function of counters, so that a core state can carry its own."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_N_STREAMS = 2**24 - 1
"""Streams are counted from 1 and must be exact in float32."""


def hashed_uniform(*counters: Tensor) -> Tensor:
    """Return numbers in (0, 1) that look independent for different counters, float64, in their broadcast shape.

    Parameters
    ----------
    *counters : Tensor
        Nonnegative integers below 2**32 (of any dtype that holds them).
    """
    mixed = torch.zeros((), dtype=torch.int64)
    for counter in counters:
        mixed = _mix((mixed ^ counter.long()) + 0x9E3779B9)
    return (_mix(mixed).double() + 0.5) / 2**32


def hashed_normal(*counters: Tensor) -> Tensor:
    """Return standard normal numbers that look independent for different counters."""
    return 2**0.5 * torch.erfinv(2 * hashed_uniform(*counters) - 1)


def draw_streams(n: int, generator: torch.Generator) -> Tensor:
    """Return the numbers of `n` streams, float32 (n,)."""
    return torch.randint(1, _N_STREAMS + 1, (n,), generator=generator).float()


def next_stream(stream: Tensor) -> Tensor:
    """Return the stream that follows each one, float32."""
    return (hashed_uniform(stream) * _N_STREAMS).floor().float() + 1


def _mix(x: Tensor) -> Tensor:
    """Scramble 32 bits held in int64 (products wrap around, the low bits are right)."""
    x = x & _MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)
