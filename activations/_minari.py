"""Export of what was observed, done and paid to Minari, the format of offline reinforcement learning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from worldprobe.activations._episodes import Episodes
from worldprobe.activations._reader import Recording, load_episodes

EPISODES_AT_ONCE = 64
"""Episodes that an export holds in memory."""


def export_minari(recording: Recording, dataset_id: str, **about: str) -> None:
    """Write the trajectories of a recording as a Minari dataset, where `minari.load_dataset(dataset_id)` finds it.

    Every episode holds o_0 ... o_T, a_0 ... a_{T-1}, rewards, terminations and truncations. Sites, states and beliefs stay in
    the recording: Minari has no place for them. Episodes are read and written in blocks: memory does not grow with their number.

    Parameters
    ----------
    recording : Recording
        The recording.
    dataset_id : str
        Name of the dataset as Minari wants it, `namespace/name-v0`; MINARI_DATASETS_PATH says where datasets lie.
    **about : str
        What Minari likes to know and a recording does not: `author`, `author_email`, `code_permalink`.

    Raises
    ------
    ImportError
        If the package `minari` is not installed (the extra `adapters`).
    ValueError
        If Minari refuses the name, or a dataset of that name is there.
    """
    try:
        from minari import create_dataset_from_buffers
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise ImportError("exporting to Minari needs the package minari: pip install 'worldprobe[adapters]'") from error
    space = spaces.Box(-np.inf, np.inf, recording["observation"].shape[1:], np.float32)
    blocks = ([EpisodeBuffer(**episode) for episode in block] for block in _episode_blocks(recording))
    with warnings.catch_warnings():
        # A recording names no Gymnasium environment, so Minari's advice to name one cannot be followed.
        warnings.filterwarnings("ignore", "(.eval_env. is set to None|env_spec is None)", UserWarning)
        dataset = create_dataset_from_buffers(
            dataset_id,
            next(blocks),
            action_space=spaces.Discrete(len(recording.identity.world["actions"])),
            observation_space=space,
            algorithm_name=str(recording.identity.behaviour["name"]),
            description=f"{recording.world_name}, recorded by worldprobe, seed {recording.identity.seed}",
            **about,
        )
    for block in blocks:
        dataset.storage.update_episodes(block)
    dataset.storage.update_metadata({"dataset_size": dataset.storage.get_size()})


def _episode_blocks(recording: Recording) -> Iterator[list[dict[str, Any]]]:
    """Yield the episodes in blocks of at most `EPISODES_AT_ONCE`, in the words of Minari."""
    keys = ("observation", "action", "reward", "terminated", "truncated", "final_observation")
    for first in range(0, recording.n_episodes, EPISODES_AT_ONCE):
        places = np.arange(first, min(first + EPISODES_AT_ONCE, recording.n_episodes))
        episodes = load_episodes(recording, keys, places)
        yield [_episode(episodes, place, int(number)) for place, number in enumerate(places)]


def _episode(episodes: Episodes, place: int, number: int) -> dict[str, Any]:
    """Return the fields of one episode: o_0 ... o_T, and what each step brought."""
    start = int(episodes.start[place])
    rows, arrays = slice(start, start + int(episodes.length[place])), episodes.arrays
    return {
        "id": number,
        "seed": None,
        "observations": np.concatenate([arrays["observation"][rows], arrays["final_observation"][place : place + 1]]),
        "actions": arrays["action"][rows],
        "rewards": arrays["reward"][rows],
        "terminations": arrays["terminated"][rows],
        "truncations": arrays["truncated"][rows],
    }
