"""One world, many tasks: every episode is paid by one of its reward functions, and the agent is told by which."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldprobe.worlds._filter import FiniteFilter
from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._mdp import solve_rewards
from worldprobe.worlds._relevance import task_relevance
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._world import Belief, BeliefFilter, Factor, State, World, check_channels


def with_tasks(world: FiniteWorld, labels: tuple[str, ...] = ()) -> TaskWorld:
    """Let every episode be paid by one of the reward functions of `world`, drawn anew and shown behind its observation.

    The task, an integer, is one more factor of the state; its one-hot follows the observation. Whatever the task, a step is
    still paid by all reward functions side by side (`rewards`), so that one stream serves to learn them all.

    Parameters
    ----------
    world : FiniteWorld
        Any finite world that gives "rewards".
    labels : tuple of str
        Names of the tasks.

    Returns
    -------
    TaskWorld
        The world called `world.name + "-tasks"`.

    Raises
    ------
    ValueError
        If `world` has a factor "task" already.
    Unavailable
        If `world` has but one reward function.

    Examples
    --------
    >>> from worldprobe.worlds import RandomConfig, RandomWorld, with_tasks
    >>> world = with_tasks(RandomWorld(RandomConfig(n_rewards=4)))
    >>> world.observation_shape, [factor.name for factor in world.factors]
    ((24,), ['state', 'task'])

    References
    ----------
    Schaul, Horgan, Gregor & Silver 2015, "Universal value function approximators".
    """
    return TaskWorld(world, labels)


class TaskWorld(World):
    """What `with_tasks` returns. Q* of task k is row k of `solve_rewards(world.inner.tables, world.inner.reward_functions, discount)`."""

    def __init__(self, inner: FiniteWorld, labels: tuple[str, ...] = ()) -> None:
        if inner.reward_functions is None:
            raise inner.unavailable("several reward functions to make tasks of")
        if any(factor.name == "task" for factor in inner.factors):
            raise ValueError(f"expected a world without a factor 'task'; got {inner.name!r}")
        self.inner = inner
        self._functions = inner.reward_functions
        self.n_rewards = inner.n_rewards
        self.name = f"{inner.name}-tasks"
        self.observation_shape = (inner.observation_size + self.n_rewards,)
        self.action_names = inner.action_names
        self.discount = inner.discount
        self.time_limit = inner.time_limit
        self.exploration = inner.exploration
        self.headline = inner.headline
        relevance = task_relevance(solve_rewards(inner.tables, self._functions, inner.discount)[:, ~inner.tables.terminal])
        self.factors = (*inner.factors, Factor("task", "categorical", self.n_rewards, relevance, labels))
        self.gives = frozenset({"simulation", "belief", "rewards"})

    # --- simulation -----------------------------------------------------------------------------------------------

    def reset(self, n: int, generator: torch.Generator) -> State:
        """Draw `n` initial states, every task with equal probability."""
        task = torch.randint(self.n_rewards, (n,), generator=generator, device=generator.device)
        return {**self.inner.reset(n, generator), "task": task}

    def observe(self, state: State, generator: torch.Generator) -> Tensor:
        """Draw the observation of each state, float32 (n, inner size + n_rewards)."""
        return torch.cat([self.inner.observe(state, generator), one_hot(state["task"], self.n_rewards).float()], 1)

    def step(self, state: State, action: Tensor, generator: torch.Generator) -> tuple[State, Tensor, Tensor]:
        """Move every state by its action: (next state, reward float32 (n,), terminated bool (n,)). `state` is not changed."""
        moved, _, terminated = self.inner.step(state, action, generator)
        reward = self._functions[state["task"], action, state["state"], moved["state"]]
        return {**moved, "task": state["task"]}, reward.float(), terminated

    def rewards(self, state: State, action: Tensor, following: State) -> Tensor:
        """Return what each task would pay for moving from `state` to `following`, float32 (n, n_rewards)."""
        return self.inner.rewards(state, action, following)

    def reward_weights(self, state: State) -> Tensor:
        """Return the one-hot of the task, float32 (n, n_rewards)."""
        return one_hot(state["task"], self.n_rewards).float()

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Return the inner factors and the task, int64 (n,)."""
        return {**self.inner.factor_values(state), "task": state["task"]}

    # --- ground truth ---------------------------------------------------------------------------------------------

    def belief_filter(self, channels: frozenset[str]) -> TaskFilter:
        """Return the inner world's filter under the task that is seen.

        Raises
        ------
        Unavailable
            If observations are no channel: the task would be hidden.
        """
        if "observation" not in check_channels(channels):
            raise self.unavailable("filter for agents that do not see their task: let 'observation' be a channel")
        return TaskFilter(self.inner.tables, self._functions, channels)

    def point_belief(self, state: State) -> Belief:
        """Return the belief that is certain of each state."""
        return {**self.inner.point_belief(state), "task": one_hot(state["task"], self.n_rewards).double()}

    def predict_belief(self, belief: Belief, actions: Tensor) -> Belief:
        """Push each belief through its action sequence, int64 (n, k); the task stays."""
        return {**self.inner.predict_belief(belief, actions), "task": belief["task"]}

    def expect_factors(self, belief: Belief) -> dict[str, Tensor]:
        """Return the class probabilities of each factor, float64 (n, size)."""
        return {**self.inner.expect_factors(belief), "task": belief["task"]}

    def counterfeit(self, generator: torch.Generator) -> TaskWorld:
        """Return the same tasks in a counterfeit of the inner world."""
        return TaskWorld(self.inner.counterfeit(generator), self.factor("task").labels)


class TaskFilter(BeliefFilter):
    """The inner world's filter; what a reward says of the state depends on the task."""

    def __init__(self, tables: FiniteTables, reward_functions: Tensor, channels: frozenset[str]) -> None:
        self.channels = check_channels(channels)
        self._size = tables.n_observations
        told = reward_functions if "reward" in channels else reward_functions[:1]
        self._filters = [FiniteFilter(replace(tables, reward=reward), channels) for reward in told]

    def start(self, observation: Tensor, generator: torch.Generator) -> Belief:
        """Return b_0 from the first observation (n, inner size + n_rewards)."""
        inner = self._filters[0].start(observation[:, : self._size], generator)
        return {**inner, "task": observation[:, self._size :].double()}

    def update(
        self, belief: Belief, action: Tensor, reward: Tensor, observation: Tensor, terminated: Tensor, generator: torch.Generator
    ) -> Belief:
        """Return b_{t+1} from b_t, a_t, r_t, o_{t+1} and whether the episode terminated there (each with leading n)."""
        which = belief["task"].argmax(1) % len(self._filters)
        following = torch.empty_like(belief["state"])
        for number in sorted(set(which.tolist())):
            rows = (which == number).nonzero().squeeze(1)
            before = {"state": belief["state"][rows]}
            seen = observation[rows, : self._size]
            after = self._filters[number].update(before, action[rows], reward[rows], seen, terminated[rows], generator)
            following[rows] = after["state"]
        return {"state": following, "task": belief["task"]}
