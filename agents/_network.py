"""The recurrent Q-network: encoder -> core -> action values."""

from __future__ import annotations

import torch
from torch import Tensor

from worldprobe.agents._agent import count_inputs
from worldprobe.agents._dense import draw_head, q_head
from worldprobe.agents._network_config import NetworkConfig
from worldprobe.agents._seeds import seeded_generator
from worldprobe.agents._trunk import Trunk
from worldprobe.worlds import World


class RecurrentQNetwork(Trunk):
    """Action values from a history: Q_t = head(core(encoder(o_t, a_{t-1}[, r_{t-1}]), state)). An `Agent`.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    input_size, n_actions : int
        Widths of what comes in and goes out.
    generator : torch.Generator, optional
        Source of the initial weights; the global generator is neither read nor moved. None: the weights hold whatever lay
        in memory, and are to be loaded.
    name : str
        What the agent is called in tables.
    observation_shape : tuple of int
        Of the world's observations; matters where they are seen as images.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import NetworkConfig, RecurrentQNetwork
    >>> network = RecurrentQNetwork(NetworkConfig(hidden_size=8), input_size=6, n_actions=4, generator=torch.Generator())
    >>> q, state = network.step(torch.zeros(2, 6), network.initial_state(2), torch.ones(2, dtype=torch.bool))
    >>> q.shape, state.shape, sorted(network.sites)[:3]
    (torch.Size([2, 4]), torch.Size([2, 16]), ['core.0.c', 'core.0.gates.cell', 'core.0.gates.forget'])
    """

    def __init__(
        self,
        config: NetworkConfig,
        input_size: int,
        n_actions: int,
        generator: torch.Generator | None,
        name: str = "network",
        observation_shape: tuple[int, ...] = (),
    ) -> None:
        super().__init__(config, input_size, n_actions, name, observation_shape)
        self.head = q_head(self.core.output_size, config.head_sizes, n_actions, config.dueling)
        if generator is not None:
            self._draw_trunk(generator)
            draw_head(self.head, generator)

    def q_values(self, y: Tensor) -> Tensor:
        """Return Q (..., n_actions) from the core's output (..., output_size)."""
        q: Tensor = self.head(y)
        return q


def make_network(world: World, config: NetworkConfig, seed: int, name: str = "network") -> RecurrentQNetwork:
    """Return the untrained network that training with `seed` begins from in `world`.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, make_network
    >>> from worldprobe.worlds import make_world
    >>> make_network(make_world("tmaze"), NetworkConfig(hidden_size=32), seed=0).input_size
    8
    """
    return draw_network(world, config, seeded_generator(seed, "initial weights"), name)


def draw_network(world: World, config: NetworkConfig, generator: torch.Generator, name: str) -> RecurrentQNetwork:
    """Return a network for a world, drawn from a generator."""
    n_inputs = count_inputs(world, frozenset(config.channels))
    return RecurrentQNetwork(config, n_inputs, world.n_actions, generator, name, world.observation_shape)


def count_parameters(config: NetworkConfig, input_size: int, n_actions: int, observation_shape: tuple[int, ...] = ()) -> int:
    """Return how many weights a network has, without the memory for them.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, count_parameters
    >>> count_parameters(NetworkConfig(core="lstm", hidden_size=2560, n_layers=2, encoder_sizes=(2560,)), input_size=8, n_actions=4)
    104936964
    """
    with torch.device("meta"):
        network = RecurrentQNetwork(config, input_size, n_actions, None, observation_shape=observation_shape)
    return sum(parameter.numel() for parameter in network.parameters())
