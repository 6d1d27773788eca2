"""Export of what was observed, done and paid to Minari, the format of offline reinforcement learning."""

from __future__ import annotations

import warnings

import numpy as np
from gymnasium import spaces

from worldprobe.activations._reader import Recording


def export_minari(recording: Recording, dataset_id: str, **about: str) -> None:
    """Write the trajectories of a recording as a Minari dataset, where `minari.load_dataset(dataset_id)` finds it.

    Every episode holds o_0 ... o_T, a_0 ... a_{T-1}, rewards, terminations and truncations. Sites, states and beliefs stay in
    the recording: Minari has no place for them. The episodes are held in memory.

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
    keys = ("observation", "action", "reward", "terminated", "truncated", "final_observation")
    observation, action, reward, terminated, truncated, final = (recording[key][:] for key in keys)
    table = recording.episodes
    buffers = [
        EpisodeBuffer(
            id=place,
            seed=None,
            observations=np.concatenate([observation[rows], final[place : place + 1]]),
            actions=action[rows],
            rewards=reward[rows],
            terminations=terminated[rows],
            truncations=truncated[rows],
        )
        for place, rows in enumerate(map(slice, table["start"], table["start"] + table["length"]))
    ]
    with warnings.catch_warnings():
        # A recording names no Gymnasium environment, so Minari's advice to name one cannot be followed.
        warnings.filterwarnings("ignore", "(.eval_env. is set to None|env_spec is None)", UserWarning)
        create_dataset_from_buffers(
            dataset_id,
            buffers,
            action_space=spaces.Discrete(len(recording.identity.world["actions"])),
            observation_space=spaces.Box(-np.inf, np.inf, observation.shape[1:], np.float32),
            algorithm_name=str(recording.identity.behaviour["name"]),
            description=f"{recording.world_name}, recorded by worldprobe, seed {recording.identity.seed}",
            **about,
        )
