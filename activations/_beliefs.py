"""The exact belief at every step of finished episodes, all of them filtered at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from worldprobe.activations._episodes import Array, Episodes
from worldprobe.activations._reader import Recording, load_episodes
from worldprobe.worlds import Belief, World

LARGEST_BELIEF = 4096
"""Bytes of one row above which beliefs (clouds of particles) are not stored but filtered again where they are needed."""


def add_beliefs(episodes: Episodes, world: World, channels: frozenset[str], generator: torch.Generator) -> Episodes:
    """Add `belief/` (if small), `expected/` and their `final_` arrays; nothing if the world gives no belief."""
    if "belief" not in world.gives:
        return episodes
    arrays: dict[str, Array] = {}
    for rows, ended, belief in _filtered(episodes, world, channels, generator):
        kept = {f"expected/{name}": values.float() for name, values in world.expect_factors(belief).items()}
        if _row_bytes(belief) <= LARGEST_BELIEF:
            kept |= {f"belief/{name}": leaf for name, leaf in belief.items()}
        for key, values in kept.items():
            _put(arrays, key, episodes.n_steps, rows, values[: rows.size])
            _put(arrays, f"final_{key}", episodes.number.size, ended, values[rows.size :])
    return episodes.with_arrays(arrays)


def recorded_belief(recording: Recording, world: World, rows: Array, generator: torch.Generator) -> Belief:
    """Return b_t at some rows of a recording, read where it is stored and filtered again where it is not.

    Parameters
    ----------
    recording : Recording
        A recording of `world`.
    world : World
        A world that gives "belief".
    rows : ndarray
        int64 (n,): rows of the recording.
    generator : torch.Generator
        Chance of a filter that needs some.

    Returns
    -------
    Belief
        Leading dimension n.

    Raises
    ------
    Unavailable
        If the world gives no belief.
    """
    stored = {key.removeprefix("belief/"): recording[key] for key in recording if key.startswith("belief/")}
    if stored:
        return {name: torch.from_numpy(array[rows]) for name, array in stored.items()}
    if "belief" not in world.gives:
        raise world.unavailable("belief filter")
    table = recording.episodes
    chosen, row_episode = np.unique(np.searchsorted(table["start"].to_numpy(), rows, side="right") - 1, return_inverse=True)
    episodes = load_episodes(recording, ("observation", "action", "reward", "terminated", "final_observation"), chosen)
    local = episodes.start[row_episode] + rows - table["start"].to_numpy()[chosen][row_episode]
    return _belief_at(episodes, world, recording.channels, local, generator)


def _belief_at(episodes: Episodes, world: World, channels: frozenset[str], wanted: Array, generator: torch.Generator) -> Belief:
    """Filter episodes and keep the beliefs of the wanted rows alone."""
    arrays: dict[str, Array] = {}
    for rows, _, belief in _filtered(episodes, world, channels, generator):
        target, source = np.nonzero(wanted[:, None] == rows)
        for name, leaf in belief.items():
            _put(arrays, name, wanted.size, target, leaf[torch.from_numpy(source)])
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def _filtered(
    episodes: Episodes, world: World, channels: frozenset[str], generator: torch.Generator
) -> Iterator[tuple[Array, Array, Belief]]:
    """Yield, step by step, the rows that are there, the episodes that have just ended, and the beliefs of both in this order."""
    belief_filter = world.belief_filter(channels)
    tensors = {
        key: torch.from_numpy(episodes.arrays[key]) for key in ("observation", "action", "reward", "terminated", "final_observation")
    }
    longest_first = np.argsort(-episodes.length, kind="stable")
    start, length = episodes.start[longest_first], episodes.length[longest_first]
    rows = start
    belief = belief_filter.start(tensors["observation"][torch.from_numpy(rows)], generator)
    yield rows, longest_first[:0], belief
    for t in range(1, int(length[0]) + 1):
        before, going = torch.from_numpy(rows), int((length > t).sum())
        ended, rows = longest_first[going : rows.size], start[:going] + t
        observation = torch.cat([tensors["observation"][torch.from_numpy(rows)], tensors["final_observation"][torch.from_numpy(ended)]])
        action, reward, terminated = (tensors[key][before] for key in ("action", "reward", "terminated"))
        belief = belief_filter.update(belief, action, reward, observation, terminated, generator)
        yield rows, ended, belief
        belief = {name: leaf[:going] for name, leaf in belief.items()}


def _put(arrays: dict[str, Array], key: str, n_rows: int, rows: Array, values: Tensor) -> None:
    """Put rows of an array that is made at its first use."""
    if key not in arrays:
        arrays[key] = np.empty((n_rows, *values.shape[1:]), values.numpy().dtype)
    arrays[key][rows] = values.numpy()


def _row_bytes(belief: Belief) -> int:
    return sum(leaf[:1].nbytes for leaf in belief.values())
