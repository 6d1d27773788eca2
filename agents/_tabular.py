"""Learning tasks one after the other in a world whose rewards are sums of known features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldprobe.agents._seeds import seeded_generator
from worldprobe.agents._tabular_learners import (
    Experience,
    Floats,
    Ints,
    KeptQLearner,
    PolicyReuseLearner,
    SuccessorFeatureLearner,
    TabularConfig,
    TabularLearner,
    TabularQLearner,
)
from worldprobe.worlds import World

TABULAR: dict[str, type[TabularLearner]] = {
    "q-learning": TabularQLearner,
    "kept values": KeptQLearner,
    "policy reuse": PolicyReuseLearner,
    "successor features": SuccessorFeatureLearner,
}
"""Name -> tabular learner of tasks that follow each other."""


@dataclass(frozen=True)
class TransferResult:
    """What tasks that followed each other brought, and what was learned."""

    reward: NDArray[np.float64]
    """(n_runs, n_tasks): mean reward per step in every task, learning and exploration included."""
    learner: TabularLearner
    """With its tables as they are after the last task."""
    situations: Situations
    """Where in the tables an observation is found."""


class Situations:
    """Numbers observations, in every run by itself, in the order in which they were met."""

    def __init__(self, n_runs: int) -> None:
        self._numbers: list[dict[bytes, int]] = [{} for _ in range(n_runs)]

    def __len__(self) -> int:
        """Return the largest number of situations of a run."""
        return max(map(len, self._numbers))

    def rows(self, observation: Tensor) -> Ints:
        """Return the rows (n_runs,) of observations (n_runs, ...), new ones where they were never seen."""
        seen = observation.numpy()
        return np.array([numbers.setdefault(each.tobytes(), len(numbers)) for numbers, each in zip(self._numbers, seen, strict=True)])


def learn_in_turn(world: World, weights: NDArray[np.float32], method: str, config: TabularConfig, seed: int) -> TransferResult:
    """Learn tasks one after the other, in several runs side by side.

    Task j of run i pays w_ij . phi, phi being the reward functions of the world; the world is the same in all of them. A learner is shown
    observations, phi and rewards; that a new task began, it is told.

    Parameters
    ----------
    world : World
        That gives "rewards" and is observed fully: what is observed is what tables are indexed by.
    weights : NDArray
        float32 (n_runs, n_tasks, n_rewards): w.
    method : str
        Name of a learner of `TABULAR`.
    config : TabularConfig
        Settings.
    seed : int
        Source of all chance.

    Raises
    ------
    KeyError
        If there is no such learner.
    ValueError
        If the world does not give several rewards, or `weights` are not theirs.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.agents import TabularConfig, learn_in_turn
    >>> from worldprobe.worlds import RoomObjects
    >>> weights = np.random.default_rng(0).uniform(-1, 1, size=(2, 3, 4)).astype(np.float32)  # 2 runs of 3 tasks
    >>> result = learn_in_turn(RoomObjects(), weights, "successor features", TabularConfig(steps_per_task=50), seed=0)
    >>> result.reward.shape
    (2, 3)
    """
    if method not in TABULAR:
        raise KeyError(f"unknown tabular learner {method!r}; expected one of {', '.join(TABULAR)}")
    if "rewards" not in world.gives or weights.ndim != 3 or weights.shape[2] != world.n_rewards:
        given = f"{weights.shape} and {world.n_rewards if 'rewards' in world.gives else 1}"
        raise ValueError(f"expected weights (n_runs, n_tasks, n_rewards) and a world of as many rewards; got {given}")
    n_runs, n_tasks, n_features = weights.shape
    random = np.random.default_rng(seeded_generator(seed, "tabular").initial_seed())
    discount = world.discount if config.discount is None else config.discount
    learner = TABULAR[method](config, (n_runs, n_tasks, world.n_actions, n_features), discount, random)
    situations, earned = Situations(n_runs), np.zeros((n_runs, n_tasks))
    for task in range(n_tasks):
        learner.begin(task)
        generator = seeded_generator(seed, "tabular", task)
        earned[:, task] = _learn_task(learner, situations, world, weights[:, task], generator)
    return TransferResult(earned / config.steps_per_task, learner, situations)


def _learn_task(
    learner: TabularLearner, situations: Situations, world: World, weights: Floats, generator: torch.Generator
) -> NDArray[np.float64]:
    """Learn one task and return the reward of every run (n_runs,)."""
    driver = world.driver(learner.n_runs, generator)
    row, total = situations.rows(driver.observation), np.zeros(learner.n_runs)
    learner.make_room(len(situations))
    for _ in range(learner.config.steps_per_task):
        action = learner.act(row)
        step = driver.step(torch.from_numpy(action))
        assert step.rewards is not None
        features, done = step.rewards.numpy(), step.done.numpy()
        begun = situations.rows(step.observation)
        following = begun.copy()
        if done.size:
            last = step.observation.clone()
            last[step.done] = step.final_observation
            following = situations.rows(last)
        learner.make_room(len(situations))
        reward = (features * weights).sum(1)
        ended = (step.terminated | step.truncated).numpy()
        learner.learn(Experience(row, action, reward, features, following, step.terminated.numpy(), ended))
        row = begun
        total += reward
    return total
