"""The contract of everything that can be probed: what it receives, what it keeps, what it emits."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldprobe.worlds import World


@runtime_checkable
class Agent(Protocol):
    """A recurrent system with action values: trained networks, their twins and planted agents satisfy it.

    At step t it receives o_t, a_{t-1} and perhaps r_{t-1} (`agent_inputs`), moves its core state and emits Q_t. The core
    state is one flat float32 tensor (n, state_size). Row t of every site is *after* o_t was processed.
    """

    name: str
    channels: frozenset[str]
    """What it receives: "action" and some of "observation", "reward"."""
    n_actions: int
    input_size: int
    state_size: int
    sites: dict[str, int]
    """Name and width of all that can be recorded; holds at least "core.h" and "q"."""

    def initial_state(self, n: int) -> Tensor:
        """Return the core states (n, state_size) in which episodes begin."""

    def step(self, inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q (n, n_actions) and the next core state; rows where `reset` (n,) holds begin an episode here."""

    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Return every site (T, n, width), and "core.state", over one unbroken stretch of inputs (T, n, input_size)."""


def agent_inputs(observation: Tensor, previous_action: Tensor, previous_reward: Tensor, channels: frozenset[str], n_actions: int) -> Tensor:
    """Concatenate what an agent receives at a step: [observation | one-hot of a_{t-1} | r_{t-1}].

    Parameters
    ----------
    observation : Tensor
        float32 (..., *observation_shape); left out unless "observation" is a channel.
    previous_action : Tensor
        int64 (...), -1 at the first step of an episode (an all-zero one-hot).
    previous_reward : Tensor
        float32 (...), 0 at the first step of an episode; left out unless "reward" is a channel.
    channels : frozenset of str
        What the agent receives.
    n_actions : int
        Number of actions.

    Returns
    -------
    Tensor
        float32 (..., input_size).

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import agent_inputs
    >>> agent_inputs(torch.tensor([[0.5]]), torch.tensor([1]), torch.tensor([-1.0]), frozenset({"observation", "action", "reward"}), 2)
    tensor([[ 0.5000,  0.0000,  1.0000, -1.0000]])
    """
    parts = [one_hot(previous_action + 1, n_actions + 1)[..., 1:].float()]
    if "observation" in channels:
        parts.insert(0, observation.reshape(*previous_action.shape, -1).float())
    if "reward" in channels:
        parts.append(previous_reward.unsqueeze(-1).float())
    return torch.cat(parts, -1)


def count_inputs(world: World, channels: frozenset[str]) -> int:
    """Return the width of `agent_inputs` in `world`.

    Examples
    --------
    >>> from worldprobe.agents import count_inputs
    >>> from worldprobe.worlds import make_world
    >>> count_inputs(make_world("tmaze"), frozenset({"observation", "action"}))
    8
    """
    return world.observation_size * ("observation" in channels) + world.n_actions + ("reward" in channels)
