"""Twins: networks that a trained one is compared with, run on the very same streams."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from worldprobe.agents._network import RecurrentQNetwork, draw_network, make_network
from worldprobe.agents._network_config import NetworkConfig
from worldprobe.agents._seeds import seeded_generator
from worldprobe.worlds import World

ECHO_STATE_GAINS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
"""Spectral radii of `echo_state_twins`, from quickly forgetting to slightly unstable."""


def untrained_twin(world: World, config: NetworkConfig, seed: int) -> RecurrentQNetwork:
    """Return the network that training with `seed` began from: the same initialisation, never trained.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, untrained_twin
    >>> from worldprobe.worlds import make_world
    >>> untrained_twin(make_world("tmaze"), NetworkConfig(hidden_size=8), seed=0).name
    'untrained'
    """
    return make_network(world, config, seed, name="untrained")


def fresh_initialisations(world: World, config: NetworkConfig, seed: int, n: int = 19) -> list[RecurrentQNetwork]:
    """Return `n` untrained networks that share nothing with the trained one but their architecture.

    With n = 19, being better than all of them has probability 1/20 under exchangeability.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, fresh_initialisations
    >>> from worldprobe.worlds import make_world
    >>> [twin.name for twin in fresh_initialisations(make_world("tmaze"), NetworkConfig(hidden_size=8), seed=0, n=2)]
    ['fresh-00', 'fresh-01']
    """
    generators = [seeded_generator(seed, "fresh initialisation", index) for index in range(n)]
    return [draw_network(world, config, each, f"fresh-{i:02d}") for i, each in enumerate(generators)]


@torch.no_grad()
def weight_noise_twins(initial: RecurrentQNetwork, trained: RecurrentQNetwork, seed: int, n: int = 19) -> list[RecurrentQNetwork]:
    """Return `n` networks as far from the initial one as the trained one is, in random directions.

    Each weight tensor W becomes W_0 + e |W_trained - W_0| / |e| with e Gaussian: what moving this far does by itself.

    Parameters
    ----------
    initial, trained : RecurrentQNetwork
        The same network before and after training.
    seed : int
        Seed of the noise.
    n : int
        Number of twins.

    Raises
    ------
    ValueError
        If the networks differ in architecture.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, make_network, weight_noise_twins
    >>> from worldprobe.worlds import make_world
    >>> before, after = (make_network(make_world("tmaze"), NetworkConfig(hidden_size=8), seed) for seed in (0, 1))
    >>> twin, = weight_noise_twins(before, after, seed=0, n=1)
    >>> moved, trained = (net.head.weight - before.head.weight for net in (twin, after))
    >>> bool((moved.norm() - trained.norm()).abs() < 1e-5)
    True
    """
    if initial.config != trained.config or initial.input_size != trained.input_size or initial.n_actions != trained.n_actions:
        raise ValueError(f"expected one network before and after training; got {initial.config} and {trained.config}")
    return [_displaced(initial, trained, seeded_generator(seed, "weight noise", index), f"noise-{index:02d}") for index in range(n)]


def _displaced(initial: RecurrentQNetwork, trained: RecurrentQNetwork, generator: torch.Generator, name: str) -> RecurrentQNetwork:
    twin = copy.deepcopy(initial)
    twin.name = name
    for weight, goal in zip(twin.parameters(), trained.parameters(), strict=True):
        noise = torch.randn(weight.shape, generator=generator)
        weight.add_(noise * ((goal - weight).norm() / noise.norm()))
    return twin


@torch.no_grad()
def echo_state_twins(world: World, config: NetworkConfig, seed: int, gains: Sequence[float] = ECHO_STATE_GAINS) -> list[RecurrentQNetwork]:
    """Return untrained networks whose recurrent matrices have the given spectral radii: the best that mere memory does.

    A core without recurrent matrices (feed-forward, or linear unit by unit) has none: its fresh initialisations are its mere memory.

    Parameters
    ----------
    world : World
        Where they will be run.
    config : NetworkConfig
        Architecture.
    seed : int
        Seed of the weights, the same for all gains.
    gains : sequence of float
        Spectral radius of every gate's recurrent matrix.

    Raises
    ------
    ValueError
        If a gain is not positive.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, echo_state_twins
    >>> from worldprobe.worlds import make_world
    >>> [twin.name for twin in echo_state_twins(make_world("tmaze"), NetworkConfig(hidden_size=8), seed=0, gains=(0.5, 1.1))]
    ['echo-0.50', 'echo-1.10']
    """
    if not all(gain > 0 for gain in gains):
        raise ValueError(f"expected positive gains; got {tuple(gains)}")
    twins: list[RecurrentQNetwork] = []
    for gain in gains:
        generator = seeded_generator(seed, "echo state")
        twin = draw_network(world, config, generator, f"echo-{gain:.2f}")
        matrices = twin.core.recurrent_matrices()
        if not matrices:
            return []
        for matrix in matrices:
            matrix *= gain / torch.linalg.eigvals(matrix).abs().max()
        twins.append(twin)
    return twins
