"""The contract of every world: pure functions over batches of states, and the ground truth that goes with them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from worldprobe.worlds._driver import Driver

State = dict[str, Tensor]
"""A batch of world states: named tensors that share their leading dimension."""

Belief = dict[str, Tensor]
"""A batch of beliefs P(state | everything received): named tensors that share their leading dimension."""

Relevance = Literal["policy", "value", "irrelevant", "unknown"]
"""What a factor is needed for: the optimal policy, only its value Q*, neither, or nobody computed it."""

Capability = Literal["simulation", "belief", "tables", "optimum", "rewards", "jacobian", "snapshot"]
"""What a world can be asked for: pure `step`, exact filter, P/O/R tables, J* and a policy, several rewards of the same moves, derivatives,
copies of a running environment."""

CHANNELS = ("observation", "action", "reward")
"""What an agent may receive at every step, beside the fact that its episode goes on. The action is never withheld."""


class Unavailable(NotImplementedError):  # noqa: N818 (reads as a sentence where it is raised)
    """A world was asked for a truth that it does not have."""


@dataclass(frozen=True)
class Factor:
    """One named coordinate of a world's state, the thing a probe is asked to decode.

    Examples
    --------
    >>> Factor("goal", "categorical", 2, "policy", labels=("up", "down")).is_categorical
    True
    """

    name: str
    kind: Literal["categorical", "continuous"]
    size: int
    """Number of classes of a categorical factor, of dimensions of a continuous one."""
    relevance: Relevance = "unknown"
    labels: tuple[str, ...] = ()
    """Names of the classes or dimensions, for figures."""
    unit: str = ""
    scale: float = 1.0
    """Fixed world scale that divides the error of a continuous factor (never estimated from data)."""

    @property
    def is_categorical(self) -> bool:
        """Whether the factor's values are class indices."""
        return self.kind == "categorical"


@dataclass(frozen=True)
class Headline:
    """The one cell of a world that its ladder is decided in, named in its code, the same for every agent."""

    factor: str
    """In a finite world the factor that is its whole state: the own-update score is about s."""
    horizon: int
    """Number of forked steps k* of the own-update score."""
    site: str = "core.h"
    streams: Literal["common", "own"] = "common"


class World(ABC):
    """A partially observed Markov decision process over batches, without hidden mutable state.

    At step t a state is observed (`observe`), an action moves it and pays (`step`). A counterfactual is another call of
    `step` on the same state. Ground truth beyond that is optional: `gives` lists it, and asking for more raises
    `Unavailable` with the name of what is missing.
    """

    name: str
    observation_shape: tuple[int, ...]
    action_names: tuple[str, ...]
    discount: float
    time_limit: int
    """Steps after which an episode is truncated by the driver."""
    factors: tuple[Factor, ...]
    headline: Headline
    gives: frozenset[Capability] = frozenset({"simulation"})
    exploration: tuple[float, ...]
    """Action probabilities of undirected exploration (sum to 1)."""
    n_rewards: int = 1
    """Number of reward functions that every move is paid by at once."""

    @property
    def n_actions(self) -> int:
        """Number of discrete actions."""
        return len(self.action_names)

    @property
    def observation_size(self) -> int:
        """Number of entries of one observation, flattened."""
        return math.prod(self.observation_shape)

    def factor(self, name: str) -> Factor:
        """Return the factor called `name`.

        Raises
        ------
        KeyError
            If the world has no such factor; the message lists those it has.
        """
        for factor in self.factors:
            if factor.name == name:
                return factor
        raise KeyError(f"world {self.name!r} has no factor {name!r}; it has {', '.join(f.name for f in self.factors)}")

    # --- simulation -----------------------------------------------------------------------------------------------

    def reset(self, n: int, generator: torch.Generator) -> State:
        """Draw `n` initial states."""
        raise self.unavailable("pure simulation (`reset`)")

    def observe(self, state: State, generator: torch.Generator) -> Tensor:
        """Draw the observation of each state, float32 of shape (n, *observation_shape)."""
        raise self.unavailable("pure simulation (`observe`)")

    def step(self, state: State, action: Tensor, generator: torch.Generator) -> tuple[State, Tensor, Tensor]:
        """Move every state by its action: (next state, reward float32 (n,), terminated bool (n,)). `state` is not changed."""
        raise self.unavailable("pure simulation (`step`)")

    def rewards(self, state: State, action: Tensor, following: State) -> Tensor:
        """Return what each of the world's reward functions pays for moving from `state` to `following`, float32 (n, n_rewards)."""
        raise self.unavailable("several reward functions")

    def reward_weights(self, state: State) -> Tensor:
        """Return w, float32 (n, n_rewards): the reward of `step` is w . `rewards`, and w stays what it is within an episode."""
        raise self.unavailable("several reward functions")

    @abstractmethod
    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Return each factor's value: int64 (n,) class indices, or float (n, size) coordinates."""

    def driver(self, n_envs: int, generator: torch.Generator) -> Driver:
        """Return `n_envs` copies that reset by themselves, seeded by `generator`."""
        from worldprobe.worlds._driver import VectorDriver

        return VectorDriver(self, n_envs, generator)

    # --- ground truth ---------------------------------------------------------------------------------------------

    def belief_filter(self, channels: frozenset[str]) -> BeliefFilter:
        """Return the Bayes filter that conditions on exactly `channels` (and on the episode going on)."""
        raise self.unavailable("an exact belief filter")

    def point_belief(self, state: State) -> Belief:
        """Return the belief that is certain of each state."""
        raise self.unavailable("a belief form")

    def predict_belief(self, belief: Belief, actions: Tensor) -> Belief:
        """Push each belief through its action sequence, unobserved.

        `actions` is int64 (n, k); terminal outcomes are absorbing.
        """
        raise self.unavailable("a transition law on beliefs")

    def expect_factors(self, belief: Belief) -> dict[str, Tensor]:
        """Return E[factor | belief]: class probabilities (n, size), or means (n, size) of continuous factors."""
        raise self.unavailable("a belief form")

    def counterfeit(self, generator: torch.Generator) -> World:
        """Return a world of the same states, observations and rewards whose transition law is another one."""
        raise self.unavailable("counterfeit laws")

    def unavailable(self, what: str) -> Unavailable:
        """Build the error that names what this world cannot give."""
        return Unavailable(f"world {self.name!r} has no {what}; it gives {', '.join(sorted(self.gives)) or 'nothing beyond its driver'}")


class BeliefFilter(ABC):
    """b_t = P(s_t | o_<=t, a_<t, and r_<t if rewards are a channel, episode not yet over), batched.

    Only the listed `channels` are read: what is passed for the others is ignored.
    """

    channels: frozenset[str]

    @abstractmethod
    def start(self, observation: Tensor, generator: torch.Generator) -> Belief:
        """Return b_0 from the first observation (n, *observation_shape)."""

    @abstractmethod
    def update(
        self, belief: Belief, action: Tensor, reward: Tensor, observation: Tensor, terminated: Tensor, generator: torch.Generator
    ) -> Belief:
        """Return b_{t+1} from b_t, a_t, r_t, o_{t+1} and whether the episode terminated there (each with leading n)."""


def check_channels(channels: frozenset[str]) -> frozenset[str]:
    """Return `channels` if they are a legal set of inputs.

    Raises
    ------
    ValueError
        If a channel is unknown, or the action is left out (a belief without one's own actions is defined only relative to a policy).
    """
    unknown = sorted(channels - set(CHANNELS))
    if unknown or "action" not in channels:
        raise ValueError(f"channels must be a subset of {CHANNELS} that holds 'action'; got {sorted(channels)}")
    return channels


def categorical(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one index per row of `weights` (n, m), nonnegative, any positive row sum; returns int64 (n,)."""
    cumulative = weights.cumsum(-1)
    uniform = torch.rand(weights.shape[0], 1, generator=generator, dtype=cumulative.dtype, device=cumulative.device) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, uniform, right=True).squeeze(-1).clamp_max(weights.shape[-1] - 1)
