"""Measured settings: with which network and which training agents learn in the worlds of the registry."""

from __future__ import annotations

from dataclasses import replace

from worldprobe.agents._algorithms import ALGORITHMS, AnyConfig
from worldprobe.agents._drqn import DrqnConfig
from worldprobe.agents._network_config import NetworkConfig
from worldprobe.agents._ppo import PpoConfig
from worldprobe.agents._pqn import PqnConfig
from worldprobe.agents._r2d2 import R2d2Config
from worldprobe.agents._tdm import TdmConfig
from worldprobe.worlds import WORLDS


def training_preset(world_name: str, algorithm: str = "pqn") -> tuple[NetworkConfig, AnyConfig]:
    """Return a network and a training for a world of the registry, in minutes on one thread.

    PQN's were measured in every world; another algorithm's in the worlds that docs/agents.md has figures of. Elsewhere it has its
    own defaults on PQN's network, and nobody has seen what these reach. `benchmarks/agents_learning.py` measures them all again.

    Parameters
    ----------
    world_name : str
        Name of a world of `worldprobe.worlds.WORLDS`.
    algorithm : str
        Name of an algorithm of `worldprobe.agents.ALGORITHMS`.

    Returns
    -------
    network : NetworkConfig
        Architecture.
    training : AnyConfig
        How it is trained, of the algorithm's own class.

    Raises
    ------
    KeyError
        If there is no such world or algorithm; the message lists those there are.

    Examples
    --------
    >>> from worldprobe.agents import training_preset
    >>> network, training = training_preset("tmaze")
    >>> network.core, network.hidden_size, training.total_steps
    ('gru', 64, 1000000)
    """
    if world_name not in WORLDS:
        raise KeyError(f"no settings for the unknown world {world_name!r}; the worlds are {', '.join(WORLDS)}")
    if algorithm not in ALGORITHMS:
        raise KeyError(f"no settings for the unknown algorithm {algorithm!r}; the algorithms are {', '.join(ALGORITHMS)}")
    if algorithm == PqnConfig.algorithm:
        return PRESETS[world_name]
    network = PRESETS[world_name][0]
    if algorithm == PpoConfig.algorithm:
        network = replace(network, actor_critic=True)
    if algorithm == TdmConfig.algorithm:
        network = replace(network, horizons=8)
    return OTHERS.get((world_name, algorithm), (network, ALGORITHMS[algorithm].config()))


def lambrechts_preset() -> tuple[NetworkConfig, DrqnConfig]:
    """Return the network and the training of the closest earlier study, for its T-Maze: one environment, one step per history.

    Two GRU layers of 32 units see a_{t-1} and o_t themselves; 10 steps of Adam (1e-3) after each episode, on 32 steps drawn
    uniformly with their whole histories, from the last 8,192 episodes; epsilon .2; a target copy every 10 episodes. gamma is the
    world's .98. There, gradients are not clipped; here, at a norm that none reaches.

    Examples
    --------
    >>> from worldprobe.agents import lambrechts_preset
    >>> network, training = lambrechts_preset()
    >>> network.n_layers, network.hidden_size, training.learn_from
    (2, 32, 'one step')

    References
    ----------
    Lambrechts, Bolland & Ernst 2022, "Recurrent networks, hidden states and beliefs in partially observable environments".
    """
    training = DrqnConfig(
        total_steps=100_000,
        n_envs=1,
        n_steps=1,
        learning_rate=1e-3,
        final_learning_rate=1e-3,
        epsilon_start=0.2,
        epsilon_end=0.2,
        max_gradient_norm=1e6,
        learn_from="one step",
        gradient_steps_per_episode=10,
        target_interval=10,
        n_evaluations=20,
    )
    return NetworkConfig(core="gru", hidden_size=32, n_layers=2, encoder_sizes=()), training


SETTLING = 1e-5
"""Step size at the end: small enough that the last network is as good as the best one."""

TMAZE = PqnConfig(total_steps=1_000_000, final_learning_rate=SETTLING, epsilon_end=0.2, n_evaluations=25)
"""Long after the return has settled; much exploration, because Q of the wrong turns has to stay right."""

BALANCE = PqnConfig(total_steps=5_000_000, final_learning_rate=SETTLING, max_gradient_norm=10.0, n_evaluations=20)
"""Smooth worlds: one action hardly changes the values, so telling actions apart takes many steps and a horizon below the world's."""

WAITING = PqnConfig(total_steps=500_000, final_learning_rate=SETTLING, epsilon_end=0.1, n_evaluations=10)
"""Worlds in which much time passes between what is known and what is paid."""

TABLES = replace(WAITING, td_lambda=0.5)
"""Worlds in which one step decides: short traces, which exploratory actions bias less."""

GUESSES = replace(TABLES, discount=0.1, epsilon_end=0.05)
"""Worlds that no action moves: the horizon adds the same noise to the values of all actions and tells none of them apart."""

BOARDS = replace(TABLES, total_steps=2_000_000)
"""Many situations, each of them seldom met."""

PUZZLES = PqnConfig(
    total_steps=2_000_000,
    n_envs=128,
    n_steps=8,
    n_epochs=1,
    n_minibatches=8,
    learning_rate=2e-3,
    final_learning_rate=1e-5,
    max_gradient_norm=1.0,
    td_lambda=0.65,
    epsilon_end=0.05,
    exploration_fraction=0.125,
    n_evaluations=20,
)
"""Levels that differ every time: many small optimiser steps on fresh ones."""

PLANNER = NetworkConfig(
    core="drc", hidden_size=16, n_layers=2, n_ticks=2, encoder="convolutional", encoder_sizes=(16, 16), head_sizes=(64,)
)
"""DRC(2, 2)."""

PRESETS: dict[str, tuple[NetworkConfig, PqnConfig]] = {
    "tmaze": (NetworkConfig(core="gru"), TMAZE),
    "tmaze-irrelevant": (NetworkConfig(core="gru"), TMAZE),
    "red-light": (NetworkConfig(core="gru"), PqnConfig(total_steps=300_000, final_learning_rate=SETTLING, n_evaluations=25)),
    "four-rooms": (
        NetworkConfig(core="gru", hidden_size=128),
        PqnConfig(total_steps=2_000_000, final_learning_rate=SETTLING, epsilon_end=0.1),
    ),
    "cartpole": (
        NetworkConfig(core="gru"),
        replace(BALANCE, learning_rate=5e-4, discount=0.98, n_evaluation_episodes=128),
    ),
    "pendulum": (
        NetworkConfig(core="gru"),
        replace(BALANCE, discount=0.97, epsilon_end=0.1, exploration_fraction=0.3, n_evaluation_episodes=64),
    ),
    "minigrid-memory": (
        NetworkConfig(core="gru", hidden_size=128),
        PqnConfig(
            total_steps=800_000,
            n_envs=32,
            n_steps=64,
            n_epochs=4,
            n_minibatches=8,
            n_checkpoints=8,
            n_evaluations=6,
            n_evaluation_episodes=64,
        ),
    ),
    "popgym-repeat": (
        NetworkConfig(core="gru"),
        PqnConfig(
            total_steps=400_000,
            n_envs=32,
            n_steps=51,
            n_epochs=4,
            n_minibatches=8,
            final_learning_rate=SETTLING,
            n_evaluations=10,
            n_evaluation_episodes=64,
        ),
    ),
    "random-mdp": (NetworkConfig(core="gru"), TABLES),
    "random-pomdp": (NetworkConfig(core="gru"), TABLES),
    "four-rooms-goals": (NetworkConfig(core="gru", hidden_size=128), BOARDS),
    "four-rooms-objects": (NetworkConfig(core="gru", hidden_size=128), BOARDS),
    "memory-chain": (NetworkConfig(core="gru"), WAITING),
    "repeat-previous": (NetworkConfig(core="gru"), GUESSES),
    "mess3": (NetworkConfig(core="gru"), GUESSES),
    "rrxor": (NetworkConfig(core="gru"), GUESSES),
    "trace-conditioning": (NetworkConfig(core="gru"), WAITING),
    "trace-conditioning-omissions": (NetworkConfig(core="gru"), WAITING),
    "mountain-hike": (NetworkConfig(core="gru"), BOARDS),
    "mountain-hike-rotated": (NetworkConfig(core="gru"), BOARDS),
    "bouncing-ball": (NetworkConfig(core="gru"), replace(WAITING, total_steps=2_000_000)),
    "sokoban": (PLANNER, PUZZLES),
    "sokoban-two-boxes": (NetworkConfig(core="gru", hidden_size=128), BOARDS),
}
"""World name -> architecture and training."""

OTHERS: dict[tuple[str, str], tuple[NetworkConfig, AnyConfig]] = {
    ("tmaze", "r2d2"): (
        NetworkConfig(core="gru", dueling=True),
        R2d2Config(total_steps=250_000, final_learning_rate=SETTLING, epsilon_end=0.2, n_evaluations=15),
    ),
    ("tmaze", "ppo"): (
        NetworkConfig(core="gru", actor_critic=True),
        PpoConfig(total_steps=300_000, final_learning_rate=SETTLING, n_evaluations=15),
    ),
    ("tmaze", "drqn"): (
        NetworkConfig(core="gru"),
        DrqnConfig(total_steps=60_000, final_learning_rate=SETTLING, epsilon_end=0.2, n_evaluations=15),
    ),
}
"""(world, algorithm) -> architecture and training, of those that are not PQN."""
