"""Tables that learn one task after the other: from scratch, with what came before, by reusing policies, by successor features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
FIRST_ROWS = 4096
"""Situations for which a table has room at first; the room is doubled when it is full."""


@dataclass(frozen=True)
class TabularConfig:
    """Settings of all tabular learners; the defaults are those of successor features in four rooms (Barreto et al. 2017)."""

    steps_per_task: int = 20_000
    """Steps in every task."""
    learning_rate: float = 0.5
    """Step size of every table."""
    weight_learning_rate: float = 0.5
    """Step size at which the weights of the features in the reward are regressed."""
    epsilon: float = 0.15
    """Probability of a uniform action."""
    discount: float | None = None
    """gamma; None: the world's own."""
    reuse_decay: float = 0.95
    """Policy reuse: factor per step of an episode on the probability of acting by the reused policy, 1 at its start."""
    temperature_step: float = 0.05
    """Policy reuse: what every episode adds to the inverse temperature by which policies are chosen, 0 at the start of a task."""

    def __post_init__(self) -> None:
        """Refuse what cannot be learned by."""
        fractions = (self.learning_rate, self.weight_learning_rate, self.epsilon, self.reuse_decay, self.discount or 0.0)
        if self.steps_per_task < 1 or not all(0 <= value <= 1 for value in fractions) or self.temperature_step < 0:
            raise ValueError(f"expected steps_per_task >= 1, rates, epsilon, reuse_decay and discount in [0, 1]; got {self}")


@dataclass(slots=True)
class Experience:
    """One step of every run."""

    row: Ints
    """(n_runs,): the situation that was acted in."""
    action: Ints
    """(n_runs,)."""
    reward: Floats
    """(n_runs,): of the present task."""
    features: Floats
    """(n_runs, n_features): what the reward is made of."""
    following: Ints
    """(n_runs,): the situation that followed in the same episode."""
    terminated: NDArray[np.bool_]
    """(n_runs,): nothing follows."""
    ended: NDArray[np.bool_]
    """(n_runs,): terminated or cut."""


class TabularLearner(ABC):
    """What learns tasks one after the other, several runs side by side that share nothing.

    Parameters
    ----------
    config : TabularConfig
        Settings.
    sizes : tuple of int
        Numbers of runs, tasks, actions and features.
    discount : float
        gamma.
    random : Generator
        Source of exploration and of choices among equals.
    """

    def __init__(self, config: TabularConfig, sizes: tuple[int, int, int, int], discount: float, random: np.random.Generator) -> None:
        self.n_runs, self.n_tasks, self.n_actions, self.n_features = sizes
        self.config, self.discount, self.random, self.task = config, discount, random, 0
        self.runs = np.arange(self.n_runs)
        self.table = np.zeros((self.n_runs, FIRST_ROWS, *self._entry()), np.float32)

    def _entry(self) -> tuple[int, ...]:
        """Return the shape of what is kept of a situation: by default a value of every action, in every task."""
        return (self.n_tasks, self.n_actions)

    def make_room(self, n_rows: int) -> None:
        """Let the table have at least `n_rows` situations."""
        while self.table.shape[1] < n_rows:
            self.table = np.concatenate([self.table, np.zeros_like(self.table)], 1)

    def begin(self, task: int) -> None:
        """Go on to a task."""
        self.task = task

    def act(self, row: Ints) -> Ints:
        """Return an action of every run."""
        return self.explore(self.choose(self.values(row)))

    def values(self, row: Ints) -> Floats:
        """Return the values (n_runs, n_actions) that are acted on."""
        return np.asarray(self.table[self.runs, row, self.task])

    def choose(self, values: Floats) -> Ints:
        """Return the best action of each run, among equals any."""
        is_best = values == values.max(1, keepdims=True)
        return np.asarray((is_best * self.random.random(values.shape)).argmax(1))

    def explore(self, action: Ints) -> Ints:
        """Replace each action by a uniform one with probability epsilon."""
        explores = self.random.random(self.n_runs) < self.config.epsilon
        return np.where(explores, self.random.integers(self.n_actions, size=self.n_runs), action)

    @abstractmethod
    def learn(self, step: Experience) -> None:
        """Learn from one step."""


class TabularQLearner(TabularLearner):
    """Q-learning, every task from zeros.

    References
    ----------
    Watkins & Dayan 1992, "Q-learning".
    """

    def learn(self, step: Experience) -> None:
        """Draw Q(s, a) towards r + gamma max Q(s')."""
        following = self.table[self.runs, step.following, self.task].max(1)
        target = step.reward + self.discount * following * ~step.terminated
        place = self.runs, step.row, self.task, step.action
        self.table[place] += self.config.learning_rate * (target - self.table[place])


class KeptQLearner(TabularQLearner):
    """Q-learning that begins every task with the values of the one before: what transfer costs and brings without a representation."""

    def begin(self, task: int) -> None:
        """Go on to a task with the values of the one before."""
        if task:
            self.table[:, :, task] = self.table[:, :, task - 1]
        super().begin(task)


class PolicyReuseLearner(TabularQLearner):
    """Q-learning that explores by following, at the start of some episodes, the policy of an earlier task (policy reuse).

    Before every episode one of the earlier policies or the present one is chosen by a softmax of what each has earned so far in this
    task. An earlier policy is followed with a probability that falls by `reuse_decay` at every step.

    References
    ----------
    Fernández & Veloso 2006, "Probabilistic policy reuse in a reinforcement learning agent".
    """

    def begin(self, task: int) -> None:
        """Go on to a task: all policies may be tried again."""
        super().begin(task)
        self._earned = np.zeros((self.n_runs, task + 1))
        self._tried = np.zeros((self.n_runs, task + 1))
        self._episodes = np.zeros(self.n_runs)
        self._policy, self._gain = np.full(self.n_runs, task), np.zeros(self.n_runs)
        self._t = np.zeros(self.n_runs)
        self._choose_policies(np.ones(self.n_runs, bool))

    def _choose_policies(self, begins: NDArray[np.bool_]) -> None:
        """Choose whom to follow in the episodes that begin."""
        preference = self._earned * (self.config.temperature_step * self._episodes)[:, None]
        gumbel = self.random.gumbel(size=preference.shape)
        self._policy = np.where(begins, (preference + gumbel).argmax(1), self._policy)
        self._gain[begins] = self._t[begins] = 0.0

    def act(self, row: Ints) -> Ints:
        """Return the reused policy's action with a probability that falls over the episode, else one of the present task."""
        own = super().act(row)
        reused = self.choose(self.table[self.runs, row, self._policy])
        follows = (self._policy != self.task) & (self.random.random(self.n_runs) < self.config.reuse_decay**self._t)
        return np.where(follows, reused, own)

    def learn(self, step: Experience) -> None:
        """Learn, and count what the followed policy earns."""
        super().learn(step)
        self._gain += self.discount**self._t * step.reward
        self._t += 1
        if step.ended.any():
            ended = np.flatnonzero(step.ended)
            place = ended, self._policy[ended]
            self._tried[place] += 1
            self._earned[place] += (self._gain[ended] - self._earned[place]) / self._tried[place]
            self._episodes[ended] += 1
            self._choose_policies(step.ended)


class SuccessorFeatureLearner(TabularLearner):
    """Successor features of a policy for every task, acting by the best of all of them, with the weights of the task regressed.

    What is kept of a situation is psi_i(s, a), the discounted sums of features under the policy of task i (n_tasks, n_actions,
    n_features); its value in task j is psi_i . w_j. It acts on max_i psi_i . w_j (generalised policy improvement), psi_j learns from that
    policy, and psi_i of the policy that was best learns along, from its own. Every task begins with psi of the one before.

    References
    ----------
    Barreto et al. 2017, "Successor features for transfer in reinforcement learning", algorithm 3 (SFQL).
    """

    def __init__(self, config: TabularConfig, sizes: tuple[int, int, int, int], discount: float, random: np.random.Generator) -> None:
        super().__init__(config, sizes, discount, random)
        self.weights = np.zeros((self.n_runs, self.n_tasks, self.n_features), np.float32)
        """w of every task, as far as it is known."""

    def _entry(self) -> tuple[int, ...]:
        return (self.n_tasks, self.n_actions, self.n_features)

    def begin(self, task: int) -> None:
        """Go on to a task with the successor features of the one before, and no idea of its weights."""
        if task:
            self.table[:, :, task] = self.table[:, :, task - 1]
        super().begin(task)

    def policy_values(self, row: Ints) -> Floats:
        """Return what every policy so far is worth in the present task (n_runs, task + 1, n_actions)."""
        psi = self.table[self.runs, row, : self.task + 1]
        return (psi @ self.weights[:, self.task, None, :, None])[..., 0]

    def values(self, row: Ints) -> Floats:
        """Return the best over policies (n_runs, n_actions)."""
        best: Floats = self.policy_values(row).max(1)
        return best

    def learn(self, step: Experience) -> None:
        """Regress the weights, and draw psi of the present policy, and of the one that was best, towards phi + gamma psi(s', a')."""
        w = self.weights[:, self.task]
        missed = step.reward - (step.features * w).sum(1)
        size = np.maximum(1.0, np.square(step.features).sum(1))  # so that large features do not overshoot
        w += self.config.weight_learning_rate * (missed / size)[:, None] * step.features
        best_policy = self.policy_values(step.row).max(2).argmax(1)
        self._towards(np.full(self.n_runs, self.task), self.values(step.following), step, np.ones(self.n_runs, bool))
        psi = self.table[self.runs, step.following, best_policy]
        own_values = (psi @ self.weights[self.runs, best_policy, :, None])[..., 0]
        self._towards(best_policy, own_values, step, best_policy != self.task)

    def _towards(self, policy: Ints, values: Floats, step: Experience, which: NDArray[np.bool_]) -> None:
        """Learn psi of a policy that goes on with the largest of `values`, in the runs `which`."""
        following = self.table[self.runs, step.following, policy, values.argmax(1)]
        target = step.features + self.discount * following * ~step.terminated[:, None]
        place = self.runs, step.row, policy, step.action
        self.table[place] += self.config.learning_rate * (target - self.table[place]) * which[:, None]
