"""Planted agents: systems whose content is known, so that an instrument can be held against it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from worldprobe.agents._agent import count_inputs
from worldprobe.worlds import World


class PlantedAgent(ABC):
    """An `Agent` that is written down instead of trained.

    A subclass says how the core state moves (`advance`), what of it is "core.h" (`hidden`) and what it is worth
    (`q_values`). A core state of zeros is a fresh episode.

    Parameters
    ----------
    name : str
        What the agent is called in tables.
    world : World
        Where it lives.
    channels : frozenset of str
        What it receives.
    width, state_size : int
        Widths of "core.h" and of the core state.
    """

    def __init__(self, name: str, world: World, channels: frozenset[str], width: int, state_size: int) -> None:
        self.name = name
        self.channels = channels
        self.n_actions = world.n_actions
        self.input_size = count_inputs(world, channels)
        self.state_size = state_size
        self.sites = {"core.h": width, "q": world.n_actions}
        self.carried: dict[str, Tensor] = {}

    def initial_state(self, n: int) -> Tensor:
        """Return the core states (n, state_size) in which episodes begin."""
        return torch.zeros(n, self.state_size)

    def renewed(self, state: Tensor) -> Tensor:
        """Return the core states from which the episodes after those of `state` begin."""
        return torch.zeros_like(state)

    @abstractmethod
    def advance(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return the next core state (n, state_size)."""

    @abstractmethod
    def hidden(self, state: Tensor) -> Tensor:
        """Return "core.h" (n, width)."""

    @abstractmethod
    def q_values(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return Q (n, n_actions) after the inputs were taken in."""

    @torch.no_grad()
    def values(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return Q (n, n_actions) of core states (n, state_size) that took in `inputs`."""
        return self.q_values(inputs, state)

    @torch.no_grad()
    def step(self, inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q (n, n_actions) and the next core state; rows where `reset` (n,) holds begin an episode here."""
        state = self.advance(inputs, torch.where(reset.unsqueeze(1), self.renewed(state), state))
        return self.q_values(inputs, state), state

    @torch.no_grad()
    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Return every site (T, n, width), and "core.state", over one unbroken stretch of inputs (T, n, input_size)."""
        states, q_values = [], []
        for received in inputs:
            state = self.advance(received, state)
            states.append(state)
            q_values.append(self.q_values(received, state))
        core_state = torch.stack(states)
        return {
            "core.h": torch.stack([self.hidden(state) for state in states]),
            "q": torch.stack(q_values),
            "core.state": core_state,
        }


def split_inputs(inputs: Tensor, world: World, channels: frozenset[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Undo `agent_inputs`: return o_t (zeros if withheld), a_{t-1} (-1 at a first step) and r_{t-1} (zeros if withheld)."""
    n = inputs.shape[0]
    size = world.observation_size * ("observation" in channels)
    observation = inputs[:, :size] if size else inputs.new_zeros(n, world.observation_size)
    choice = inputs[:, size : size + world.n_actions]
    action = torch.where(choice.any(1), choice.argmax(1), -1)
    reward = inputs[:, -1] if "reward" in channels else inputs.new_zeros(n)
    return observation.reshape(n, *world.observation_shape), action, reward
