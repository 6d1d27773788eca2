"""Whole episodes in memory: ragged rows, and their padded form for networks that want rectangles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldprobe.agents import agent_inputs

Array = np.ndarray[Any, np.dtype[Any]]

PADDING = 1.25
"""Episodes share a rectangle while its longest is at most this much longer than its shortest."""


@dataclass(frozen=True, eq=False)
class Episodes:
    """Rows of whole episodes, one after another.

    Parameters
    ----------
    number : ndarray
        int64 (n_episodes,): numbers of the episodes.
    length : ndarray
        int64 (n_episodes,): rows of each.
    arrays : Mapping[str, ndarray]
        Key to array; step keys have `length.sum()` rows, episode keys `n_episodes`.
    """

    number: Array
    length: Array
    arrays: Mapping[str, Array]

    @property
    def n_steps(self) -> int:
        """Number of rows."""
        return int(self.length.sum())

    @property
    def start(self) -> Array:
        """First row of each episode."""
        return np.asarray(np.cumsum(self.length) - self.length)

    @property
    def t(self) -> Array:
        """Step within the episode of each row."""
        return np.asarray(np.arange(self.n_steps) - np.repeat(self.start, self.length))

    @property
    def episode(self) -> Array:
        """Number of the episode of each row."""
        return np.repeat(self.number, self.length)

    def with_arrays(self, arrays: Mapping[str, Array]) -> Episodes:
        """Return the same episodes with more arrays."""
        return Episodes(self.number, self.length, {**self.arrays, **arrays})


def received(episodes: Episodes, channels: frozenset[str], n_actions: int) -> Tensor:
    """Return what an agent with `channels` received at each row: o_t, a_{t-1} and r_{t-1} of the same episode, (n_steps, input_size)."""
    action, reward = previous(episodes.arrays["action"], episodes.start, -1), previous(episodes.arrays["reward"], episodes.start, 0)
    observation = torch.from_numpy(episodes.arrays["observation"])
    return agent_inputs(observation, torch.from_numpy(action), torch.from_numpy(reward), channels, n_actions)


def previous(values: Array, start: Array, first: float) -> Array:
    """Return the value of the row before, and `first` where an episode starts."""
    shifted = np.empty_like(values)
    shifted[1:] = values[:-1]
    shifted[start] = first
    return shifted


def rectangles(length: Array, largest: int) -> Iterator[Array]:
    """Yield episode indices by length, such that each group padded to its longest has at most `largest` cells (or one episode)."""
    order = np.argsort(length, kind="stable")
    begin = 0
    while begin < order.size:
        sizes = length[order[begin:]]
        n_fit = int(((sizes <= PADDING * sizes[0] + 1) & (sizes * np.arange(1, sizes.size + 1) <= largest)).sum())
        yield order[begin : begin + max(1, n_fit)]
        begin += max(1, n_fit)


def padded_rows(start: Array, length: Array) -> tuple[Array, Array]:
    """Return, for episodes padded by repeating their last row, the row of each cell (T, n) and whether it is real."""
    t = np.arange(length.max())[:, None]
    return start + np.minimum(t, length - 1), t < length
