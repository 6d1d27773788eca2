"""Planted agents that know nothing of their world's dynamics: what every instrument must not find anything in."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldprobe.agents._hash import draw_streams, hashed_normal, next_stream
from worldprobe.agents._network import RecurrentQNetwork, make_network
from worldprobe.agents._network_config import NetworkConfig
from worldprobe.agents._planted import PlantedAgent
from worldprobe.agents._seeds import seeded_generator
from worldprobe.worlds import World


class MemorylessAgent(PlantedAgent):
    """Random features of the present input: "core.h" = tanh(W x_t + b), Q a random readout of it.

    Parameters
    ----------
    world : World
        Where it lives.
    channels : frozenset of str
        What it receives.
    seed : int
        Seed of the features.
    width : int
        Number of features.
    """

    def __init__(self, world: World, channels: frozenset[str], seed: int, width: int = 64) -> None:
        super().__init__("memoryless", world, channels, width, width)
        self.carried = {"core.h": torch.arange(width)}
        generator = seeded_generator(seed, self.name)
        self._weight = torch.randn(self.input_size, width, generator=generator)
        self._bias = torch.randn(width, generator=generator)
        self._readout = _readout(width, self.n_actions, generator)

    def advance(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Forget, and look."""
        return torch.tanh(inputs @ self._weight + self._bias)

    def hidden(self, state: Tensor) -> Tensor:
        """Return the features."""
        return state

    def q_values(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return a random readout of the features."""
        return state @ self._readout


class ClockAgent(PlantedAgent):
    """Random features of the time in the episode: "core.h" = cos(w t + b), Q a random readout of it.

    State t, counted from 1. Periods reach from 4 to 400 steps.

    Parameters
    ----------
    world : World
        Where it lives.
    channels : frozenset of str
        What it receives (and ignores).
    seed : int
        Seed of the features.
    width : int
        Number of features.
    """

    def __init__(self, world: World, channels: frozenset[str], seed: int, width: int = 64) -> None:
        super().__init__("clock", world, channels, width, 1)
        generator = seeded_generator(seed, self.name)
        self._frequency = 2 * math.pi / (4 * 100 ** torch.rand(width, generator=generator))
        self._phase = 2 * math.pi * torch.rand(width, generator=generator)
        self._readout = _readout(width, self.n_actions, generator)

    def advance(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Count."""
        return state + 1

    def hidden(self, state: Tensor) -> Tensor:
        """Return the features."""
        return torch.cos(state * self._frequency + self._phase)

    def q_values(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return a random readout of the features."""
        return self.hidden(state) @ self._readout


class DriftingNoiseAgent(PlantedAgent):
    """Slow noise that has nothing to do with the world: "core.h" is h_t = rho h_{t-1} + sqrt(1 - rho^2) e_t, h_0 = e_0.

    Nonsense correlations are its speciality: it drifts as slowly as beliefs do. Every `initial_state` and every reset
    begins a stream of its own, and e is a fixed function of stream, t and unit; Q is a random readout of the input.
    State [stream | t | h].

    Parameters
    ----------
    world : World
        Where it lives.
    channels : frozenset of str
        What it receives (for its Q alone).
    seed : int
        Seed of the streams that `initial_state` hands out.
    width : int
        Number of units.
    rho : float
        Correlation from step to step.

    Raises
    ------
    ValueError
        If `rho` is outside [0, 1).
    """

    def __init__(self, world: World, channels: frozenset[str], seed: int, width: int = 64, rho: float = 0.95) -> None:
        if not 0 <= rho < 1:
            raise ValueError(f"expected 0 <= rho < 1; got {rho}")
        super().__init__("drifting noise", world, channels, width, width + 2)
        self._rho = rho
        self._generator = seeded_generator(seed, self.name)
        self._readout = _readout(self.input_size, self.n_actions, self._generator)

    def initial_state(self, n: int) -> Tensor:
        """Return core states (n, state_size) of streams that were not handed out before."""
        state = torch.zeros(n, self.state_size)
        state[:, 0] = draw_streams(n, self._generator)
        return state

    def renewed(self, state: Tensor) -> Tensor:
        """Go to the next stream."""
        renewed = torch.zeros_like(state)
        renewed[:, 0] = next_stream(state[:, 0])
        return renewed

    def advance(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Drift."""
        stream, t, h = state[:, :1], state[:, 1:2], state[:, 2:]
        noise = hashed_normal(stream, t, torch.arange(h.shape[1])).float()
        drifted = self._rho * h + math.sqrt(1 - self._rho**2) * noise
        return torch.cat([stream, t + 1, torch.where(t == 0, noise, drifted)], 1)

    def hidden(self, state: Tensor) -> Tensor:
        """Return the noise."""
        return state[:, 2:]

    def q_values(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return a random readout of the input."""
        return inputs @ self._readout


def reservoir_agent(world: World, channels: frozenset[str], seed: int, width: int = 64) -> RecurrentQNetwork:
    """Return an untrained GRU on the raw inputs, whose random dynamics remember some of the past.

    Examples
    --------
    >>> from worldprobe.agents import reservoir_agent
    >>> from worldprobe.worlds import make_world
    >>> reservoir_agent(make_world("tmaze"), frozenset({"observation", "action"}), seed=0, width=26).sites["core.h"]
    26
    """
    config = NetworkConfig(core="gru", hidden_size=width, encoder_sizes=(), channels=tuple(sorted(channels)))
    return make_network(world, config, seed, name="reservoir")


def _readout(width: int, n_actions: int, generator: torch.Generator) -> Tensor:
    return torch.randn(width, n_actions, generator=generator) / math.sqrt(width)
