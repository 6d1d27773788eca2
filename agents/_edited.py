"""Agents whose core state is edited while they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from worldprobe.agents._agent import Agent

Edit = Callable[[Tensor, Tensor], Tensor]
"""Maps what the edited sites hold, float32 (n, width), and the inputs that were just taken in (n, input_size), to what they shall hold."""


@runtime_checkable
class EditableAgent(Agent, Protocol):
    """An agent whose values follow from its present inputs and its core state, so that a changed state shows in what it does."""

    carried: dict[str, Tensor]
    """For each site that is part of the core state, its columns there, int64 (width,)."""

    def values(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return Q (n, n_actions) of core states (n, state_size) that took in `inputs` (n, input_size)."""


class EditedAgent:
    """An `EditableAgent` whose sites are edited at every step: after the core moved, before values are read and the state is carried on.

    Parameters
    ----------
    agent : EditableAgent
        Who runs; it is not changed.
    edit : callable
        What is done to the sites' content; see `Edit`.
    sites : sequence of str, optional
        Which of `agent.carried`, one after the other; all by default, so that nothing is carried past the edit.
    name : str, optional
        What it is called in tables.

    Raises
    ------
    TypeError
        If the agent's values do not follow from its state.
    KeyError
        If a site is no part of the core state.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import EditedAgent, NetworkConfig, evaluate_return, make_network
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> network = make_network(world, NetworkConfig(core="lstm", hidden_size=8), seed=0)
    >>> list(network.carried)
    ['core.h', 'core.c']
    >>> forgetful = EditedAgent(network, lambda content, inputs: torch.zeros_like(content))
    >>> evaluate_return(forgetful, world, 16, torch.Generator().manual_seed(0)).n_episodes
    16
    """

    def __init__(self, agent: EditableAgent, edit: Edit, sites: Sequence[str] | None = None, name: str | None = None) -> None:
        if not isinstance(agent, EditableAgent) or not agent.carried:
            raise TypeError(
                f"{agent.name!r} cannot be edited: expected an agent with `values(inputs, state)` and at least one site in `carried`, "
                "whose values follow from its core state"
            )
        chosen = tuple(agent.carried) if sites is None else tuple(sites)
        unknown = [site for site in chosen if site not in agent.carried]
        if unknown:
            raise KeyError(f"{unknown[0]!r} is no part of the core state of {agent.name!r}; what is: {', '.join(agent.carried)}")
        self.agent, self.edit, self.edited_sites = agent, edit, chosen
        self.columns = torch.cat([agent.carried[site] for site in chosen])
        self.name = name or f"{agent.name}, edited"
        self.channels, self.n_actions = agent.channels, agent.n_actions
        self.input_size, self.state_size = agent.input_size, agent.state_size
        self.carried = agent.carried
        self.sites = {site: width for site, width in agent.sites.items() if site in (*agent.carried, "q")}

    def initial_state(self, n: int) -> Tensor:
        """Return the core states (n, state_size) in which episodes begin."""
        return self.agent.initial_state(n)

    def values(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return Q (n, n_actions) of core states (n, state_size) as they are."""
        return self.agent.values(inputs, state)

    @torch.no_grad()
    def edited(self, inputs: Tensor, state: Tensor) -> Tensor:
        """Return core states (n, state_size) with the edit made."""
        changed = state.clone()
        changed[:, self.columns] = self.edit(state[:, self.columns], inputs)
        return changed

    @torch.no_grad()
    def step(self, inputs: Tensor, state: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q (n, n_actions) and the next core state, both after the edit."""
        _, state = self.agent.step(inputs, state, reset)
        state = self.edited(inputs, state)
        return self.agent.values(inputs, state), state

    @torch.no_grad()
    def activations(self, inputs: Tensor, state: Tensor) -> dict[str, Tensor]:
        """Return the carried sites, "q" and "core.state" (T, n, width), after each edit, over one unbroken stretch."""
        states, values = [], []
        goes_on = torch.zeros(inputs.shape[1], dtype=torch.bool)
        for received in inputs:
            q, state = self.step(received, state, goes_on)
            states.append(state)
            values.append(q)
        core_state = torch.stack(states)
        return {site: core_state[..., self.carried[site]] for site in self.carried} | {"q": torch.stack(values), "core.state": core_state}
