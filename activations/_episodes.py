"""Whole episodes in memory: ragged rows, and the rectangles in them for networks that want such."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldprobe.agents import agent_inputs

Array = np.ndarray[Any, np.dtype[Any]]


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


def by_length(length: Array, largest: int) -> Iterator[Array]:
    """Yield groups of episodes, longest first, of at most `largest` rows together (or one episode)."""
    order = np.argsort(-length, kind="stable")
    begin = 0
    while begin < order.size:
        n_fit = int(np.searchsorted(np.cumsum(length[order[begin:]]), largest, side="right"))
        yield order[begin : begin + max(1, n_fit)]
        begin += max(1, n_fit)


def stretches(length: Array) -> Iterator[tuple[int, int, int]]:
    """Cut episodes (longest first) into rectangles without padding: yield (n, t, t'), steps t to t' - 1 of the first n episodes."""
    begin = 0
    for end in np.unique(length).tolist():
        yield int((length >= end).sum()), begin, end
        begin = end
