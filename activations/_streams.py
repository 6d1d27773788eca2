"""Behaviours: ways of acting that depend on nothing but the history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from worldprobe.activations._describe import describe_agent
from worldprobe.agents import Agent, agent_inputs
from worldprobe.worlds import Belief, BeliefFilter, BeliefPolicy, DriverStep, World, categorical, solve_pomdp

COMMON_EPSILONS = (0.1, 0.5, 1.0)
"""Shares of exploration of the common streams: near the optimum, half-way, and undirected."""


@dataclass(slots=True)
class Moment:
    """All that a behaviour may look at, of `n` copies of the world."""

    observation: Tensor
    """float32 (n, *observation_shape): o_t."""
    previous_action: Tensor
    """int64 (n,): a_{t-1}, -1 at the first step of an episode."""
    previous_reward: Tensor
    """float32 (n,): r_{t-1}, 0 at the first step of an episode."""
    reset: Tensor
    """bool (n,): whether an episode begins here."""

    @classmethod
    def first(cls, observation: Tensor) -> Self:
        """Return the moment at which episodes begin in every copy."""
        n = len(observation)
        return cls(observation, torch.full((n,), -1), torch.zeros(n), torch.ones(n, dtype=torch.bool))

    @classmethod
    def after(cls, step: DriverStep, action: Tensor) -> Self:
        """Return the moment that follows a step."""
        ended = step.terminated | step.truncated
        return cls(step.observation, action.masked_fill(ended, -1), step.reward.masked_fill(ended, 0.0), ended)


Actor = Callable[[Moment], Tensor]
"""Acts in all copies, step after step: a moment goes in, actions int64 (n,) come out."""


class Behaviour(Protocol):
    """A policy on histories, the same for every copy of a world."""

    @property
    def name(self) -> str:
        """What the behaviour is called in tables."""

    def describe(self) -> dict[str, Any]:
        """Return name and parameters as JSON, for the manifest."""

    def begin(self, world: World, n_envs: int, generator: torch.Generator) -> Actor:
        """Return an actor for `n_envs` copies that are about to begin episodes; all its chance comes from `generator`."""


@dataclass(frozen=True, eq=False)
class EpsilonGreedy:
    """The agent's own policy: the action of largest Q_t, and with probability epsilon one of the world's undirected exploration.

    Parameters
    ----------
    agent : Agent
        Whose Q-values are followed.
    epsilon : float
        Probability of exploring, in [0, 1].

    Raises
    ------
    ValueError
        If `epsilon` is no probability.

    Examples
    --------
    >>> from worldprobe.activations import EpsilonGreedy
    >>> from worldprobe.agents import NetworkConfig, make_network
    >>> from worldprobe.worlds import make_world
    >>> agent = make_network(make_world("tmaze"), NetworkConfig(hidden_size=8), seed=0)
    >>> EpsilonGreedy(agent, epsilon=0.1).describe()["epsilon"]
    0.1
    """

    agent: Agent
    epsilon: float = 0.1
    name: str = field(default="epsilon-greedy", init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon is a probability, between 0 and 1; got {self.epsilon}")

    def describe(self) -> dict[str, Any]:
        """Return name and parameters as JSON."""
        return {"name": self.name, "epsilon": self.epsilon, "agent": describe_agent(self.agent)}

    def begin(self, world: World, n_envs: int, generator: torch.Generator) -> Actor:
        """Return an actor whose core starts from the agent's initial state."""
        return GreedyActor(self.agent, self.epsilon, world, n_envs, generator)


class GreedyActor:
    """Acts greedily but for exploration, and shows what the agent holds while it does."""

    def __init__(self, agent: Agent, epsilon: float, world: World, n_envs: int, generator: torch.Generator) -> None:
        self._agent, self._epsilon, self._generator = agent, epsilon, generator
        self._exploration = torch.tensor(world.exploration).expand(n_envs, -1)
        self.core_state = agent.initial_state(n_envs)
        """The core state after the last step, (n_envs, state_size)."""
        self.q_values = torch.zeros(n_envs, agent.n_actions)
        """Q of the last step, (n_envs, n_actions)."""

    @torch.no_grad()
    def __call__(self, moment: Moment) -> Tensor:
        """Return the actions of a step."""
        agent = self._agent
        inputs = agent_inputs(moment.observation, moment.previous_action, moment.previous_reward, agent.channels, agent.n_actions)
        self.q_values, self.core_state = agent.step(inputs, self.core_state, moment.reset)
        explores = torch.rand(len(self.q_values), generator=self._generator) < self._epsilon
        return torch.where(explores, categorical(self._exploration, self._generator), self.q_values.argmax(1))


@dataclass(frozen=True, eq=False)
class CommonBehaviour:
    """The one fixed behaviour of a world's common streams, on which all its agents are compared.

    Every episode draws an epsilon from `epsilons`; every step explores with that probability (by `world.exploration`) and
    else takes the action of the world's best belief policy. A world without one explores throughout. No agent is involved.

    Parameters
    ----------
    world : World
        The world of the streams.
    channels : frozenset of str
        What the belief policy receives.
    epsilons : tuple of float
        Shares of exploration, drawn evenly.

    Examples
    --------
    >>> from worldprobe.activations import CommonBehaviour
    >>> from worldprobe.worlds import make_world
    >>> CommonBehaviour(make_world("tmaze")).describe()["policy"]
    'best belief policy'
    """

    world: World
    channels: frozenset[str] = frozenset({"observation", "action"})
    epsilons: tuple[float, ...] = COMMON_EPSILONS
    name: str = field(default="common", init=False)

    @property
    def has_policy(self) -> bool:
        """Whether the world gives a filter and a policy on its beliefs."""
        return {"belief", "optimum"} <= self.world.gives

    @cached_property
    def policy(self) -> BeliefPolicy:
        """The world's best belief policy, solved once."""
        return solve_pomdp(self.world, self.channels).policy

    def describe(self) -> dict[str, Any]:
        """Return name and parameters as JSON."""
        policy = "best belief policy" if self.has_policy else "none: undirected exploration"
        return {"name": self.name, "policy": policy, "channels": sorted(self.channels), "epsilons": list(self.epsilons)}

    def begin(self, world: World, n_envs: int, generator: torch.Generator) -> Actor:
        """Return an actor that filters the histories of all copies."""
        if world.name != self.world.name:
            raise ValueError(f"this behaviour is that of the world {self.world.name!r}; got {world.name!r}")
        exploration = torch.tensor(world.exploration).expand(n_envs, -1)
        if not self.has_policy:
            return lambda _: categorical(exploration, generator)
        tracker = _BeliefTracker(world.belief_filter(self.channels), generator)
        choices, epsilon = torch.tensor(self.epsilons), torch.zeros(n_envs)

        def act(moment: Moment) -> Tensor:
            nonlocal epsilon
            drawn = choices[torch.randint(len(choices), (n_envs,), generator=generator)]
            epsilon = torch.where(moment.reset, drawn, epsilon)
            explores = torch.rand(n_envs, generator=generator) < epsilon
            return torch.where(explores, categorical(exploration, generator), self.policy.action(tracker.follow(moment)))

        return act


class _BeliefTracker:
    """Filters running histories, each begun anew where its episode does."""

    def __init__(self, belief_filter: BeliefFilter, generator: torch.Generator) -> None:
        self._filter = belief_filter
        self._generator = generator
        self._belief: Belief = {}

    def follow(self, moment: Moment) -> Belief:
        """Return b_t of every copy."""
        begun = moment.reset.nonzero().squeeze(1)
        going = (~moment.reset).nonzero().squeeze(1)
        fresh = self._filter.start(moment.observation[begun], self._generator) if begun.numel() else {}
        if not going.numel():
            self._belief = fresh
            return self._belief
        before = {name: leaf[going] for name, leaf in self._belief.items()}
        action, reward = moment.previous_action[going], moment.previous_reward[going]
        ended = torch.zeros(going.numel(), dtype=torch.bool)
        now = self._filter.update(before, action, reward, moment.observation[going], ended, self._generator)
        following = {name: leaf.index_copy(0, going, now[name]) for name, leaf in self._belief.items()}
        self._belief = {name: leaf.index_copy(0, begun, fresh[name]) for name, leaf in following.items()} if fresh else following
        return self._belief


BEHAVIOURS: dict[str, Callable[[Agent, World], Behaviour]] = {
    "own": lambda agent, _: EpsilonGreedy(agent),
    "common": lambda _, world: CommonBehaviour(world),
}
"""The two streams every agent is recorded on, by name: `(agent, world) -> Behaviour`."""
