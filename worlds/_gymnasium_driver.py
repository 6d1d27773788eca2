"""Driving, resuming and forking Gymnasium environments."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldprobe.worlds._driver import Driver, DriverStep, check_actions
from worldprobe.worlds._gymnasium import GymnasiumWorld

SEEDS = 2**31 - 1
"""Episodes are seeded by integers below this."""


class GymnasiumDriver(Driver):
    """Steps environments one after the other, with the semantics of `VectorDriver`: no filler rows, no lost last observation.

    Each episode is begun with a seed drawn from `generator`, and its actions are kept: seed and actions are what
    `state_dict` saves, and `load_state_dict` plays them again.

    Parameters
    ----------
    world : GymnasiumWorld
        The world.
    n_envs : int
        Number of environments.
    generator : torch.Generator
        Source of the episodes' seeds, owned by the driver from here on.

    Raises
    ------
    ValueError
        If `n_envs` is below 1.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import popgym_repeat
    >>> driver = popgym_repeat().driver(2, torch.Generator().manual_seed(0))
    >>> step = driver.step(torch.tensor([0, 1]))
    >>> step.observation.shape, driver.t.tolist()
    (torch.Size([2, 4]), [1, 1])
    >>> fork = driver.fork(torch.tensor([0, 0, 1]))
    >>> fork.step(torch.tensor([2, 3, 0])).reward.shape, driver.t.tolist()
    (torch.Size([3]), [1, 1])
    """

    world: GymnasiumWorld

    def __init__(self, world: GymnasiumWorld, n_envs: int, generator: torch.Generator) -> None:
        if n_envs < 1:
            raise ValueError(f"n_envs must be at least 1; got {n_envs}")
        self.world = world
        self.n_envs = n_envs
        self._generator = generator
        self._episodes = [Episode(world) for _ in range(n_envs)]
        self.reset()

    def reset(self) -> Tensor:
        """Begin new episodes everywhere and return their first observations."""
        self.observation = _stacked([self._begin(episode) for episode in self._episodes], self.world)
        self.t = torch.zeros(self.n_envs, dtype=torch.int64)
        return self.observation

    def step(self, action: Tensor) -> DriverStep:
        """Act in every environment; `action` is int64 (n,).

        Raises
        ------
        ValueError
            If an action is missing or is none of the world's.
        """
        check_actions(action, self.n_envs, self.world.n_actions)
        moves = [episode.act(number) for episode, number in zip(self._episodes, action.tolist(), strict=True)]
        terminated = torch.tensor([move.terminated for move in moves])
        t = self.t + 1
        truncated = (torch.tensor([move.truncated for move in moves]) | (t >= self.world.time_limit)) & ~terminated
        done = (terminated | truncated).nonzero().squeeze(1)
        finished = done.tolist()
        final_factors = self.world.read_factors([self._episodes[i].environment for i in finished])
        final_observation = _stacked([moves[i].observation for i in finished], self.world)
        observations = [move.observation for move in moves]
        for i in finished:
            observations[i] = self._begin(self._episodes[i])
        self.t = t.index_fill(0, done, 0)
        self.observation = _stacked(observations, self.world)
        return DriverStep(
            observation=self.observation,
            reward=torch.tensor([move.reward for move in moves], dtype=torch.float32),
            terminated=terminated,
            truncated=truncated,
            done=done,
            final_observation=final_observation,
            final_state={},
            final_factors=final_factors,
        )

    def factor_values(self) -> dict[str, Tensor]:
        """Return each factor's value in the present states."""
        return self.world.read_factors([episode.environment for episode in self._episodes])

    def fork(self, index: Tensor) -> GymnasiumFork:
        """Return copies of the environments `index`, int64 (m,), that can be stepped without changing the originals.

        Chance is copied too: a copy meets the accidents that its original would meet under the same actions.

        Raises
        ------
        RuntimeError
            If a replayed environment does not repeat itself.
        """
        chosen = [self._episodes[i] for i in index.tolist()]
        return GymnasiumFork(self.world, [episode.copied() for episode in chosen], self.observation[index])

    def state_dict(self) -> dict[str, Tensor]:
        """Return each episode's seed and actions (padded with -1), what they must lead to, and the generator's state."""
        actions = torch.full((self.n_envs, self.world.time_limit), -1)
        for row, episode in zip(actions, self._episodes, strict=True):
            row[: len(episode.actions)] = torch.tensor(episode.actions, dtype=torch.int64)
        return {
            "seed": torch.tensor([episode.seed for episode in self._episodes]),
            "actions": actions,
            "t": self.t,
            "observation": self.observation,
            "generator": self._generator.get_state(),
            **{f"factor/{name}": values for name, values in self.factor_values().items()},
        }

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Continue bit for bit from what `state_dict` returned.

        Raises
        ------
        ValueError
            If the entries are not those of a driver of this world, or of another number of environments.
        RuntimeError
            If the saved actions do not lead to the saved observations and factors: the environments are not decided by seed and
            actions, or are another version.
        """
        expected = self.state_dict()
        if saved.keys() != expected.keys() or any(saved[name].shape != leaf.shape for name, leaf in expected.items()):
            raise ValueError(
                f"expected the state of {self.n_envs} environments with entries {sorted(expected)}; got entries {sorted(saved)}; "
                "build the driver with the world and n_envs of the saved run"
            )
        episodes = [Episode(self.world) for _ in range(self.n_envs)]
        rows = zip(episodes, saved["seed"].tolist(), saved["actions"].tolist(), saved["t"].tolist(), strict=True)
        observation = _stacked([episode.replay(seed, actions[:t]) for episode, seed, actions, t in rows], self.world)
        factors = self.world.read_factors([episode.environment for episode in episodes])
        differing = (observation != saved["observation"]).flatten(1).any(1)
        for name, values in factors.items():
            differing |= (values != saved[f"factor/{name}"]).reshape(self.n_envs, -1).any(1)
        if differing.any():
            raise self._not_repeated(differing.nonzero().squeeze(1).tolist())
        self._episodes = episodes
        self.observation, self.t = observation, saved["t"].clone()
        self._generator.set_state(saved["generator"])

    def _begin(self, episode: Episode) -> NDArray[np.float32]:
        return episode.begin(int(torch.randint(SEEDS, (), generator=self._generator)))

    def _not_repeated(self, which: list[int]) -> RuntimeError:
        return RuntimeError(
            f"environments {which} of world {self.world.name!r} did not repeat their observations from seed and actions: they draw "
            "chance that `reset(seed=...)` does not decide, or are another version than the saved ones. Such a run can not be resumed"
        )


@dataclass(slots=True)
class ForkStep:
    """What one step of m forked environments gave; one that has ended stays as it ended and pays nothing."""

    observation: Tensor
    """float32 (m, *observation_shape)."""
    reward: Tensor
    """float32 (m,)."""
    terminated: Tensor
    """bool (m,): the episode has reached a terminal state, now or before."""
    truncated: Tensor
    """bool (m,): the environment itself has cut the episode, now or before."""


class GymnasiumFork:
    """Copies of environments in mid-episode, for counterfactual actions; made by `GymnasiumDriver.fork`."""

    def __init__(self, world: GymnasiumWorld, episodes: Sequence[Episode], observation: Tensor) -> None:
        self.world = world
        self.observation = observation
        self._episodes = episodes
        self._terminated, self._truncated = torch.zeros(2, len(episodes), dtype=torch.bool)

    def step(self, action: Tensor) -> ForkStep:
        """Act in every copy; `action` is int64 (m,). The driver's time limit does not count here.

        Raises
        ------
        ValueError
            If an action is missing or is none of the world's.
        """
        check_actions(action, len(self._episodes), self.world.n_actions)
        running = (~(self._terminated | self._truncated)).nonzero().squeeze(1)
        moves = [self._episodes[i].act(int(action[i])) for i in running.tolist()]
        reward = torch.zeros(len(self._episodes))
        reward[running] = torch.tensor([move.reward for move in moves], dtype=torch.float32)
        self._terminated = self._terminated.index_copy(0, running, torch.tensor([m.terminated for m in moves], dtype=torch.bool))
        self._truncated = self._truncated.index_copy(
            0, running, torch.tensor([m.truncated and not m.terminated for m in moves], dtype=torch.bool)
        )
        self.observation = self.observation.index_copy(0, running, _stacked([move.observation for move in moves], self.world))
        return ForkStep(self.observation, reward, self._terminated, self._truncated)

    def factor_values(self) -> dict[str, Tensor]:
        """Return each factor's value in the copies."""
        return self.world.read_factors([episode.environment for episode in self._episodes])


@dataclass(slots=True)
class Move:
    """What one environment answered to one action."""

    observation: NDArray[np.float32]
    reward: float
    terminated: bool
    truncated: bool


class Episode:
    """One environment in an episode whose seed and actions are remembered."""

    def __init__(self, world: GymnasiumWorld) -> None:
        self._world = world
        self.environment = world.env_fn()
        self.seed = 0
        self.actions: list[int] = []
        self._last = np.empty(0, np.float32)

    def begin(self, seed: int) -> NDArray[np.float32]:
        """Reset by a seed and return the first observation."""
        self.seed, self.actions = seed, []
        self._last = self._world.encode(self.environment.reset(seed=seed)[0])
        return self._last

    def act(self, action: int) -> Move:
        """Take the world's action of that index."""
        observation, reward, terminated, truncated, _ = self.environment.step(self._world.action_numbers[action])
        self.actions.append(action)
        self._last = self._world.encode(observation)
        return Move(self._last, float(reward), bool(terminated), bool(truncated))

    def replay(self, seed: int, actions: list[int]) -> NDArray[np.float32]:
        """Live through an episode again and return its last observation."""
        self.begin(seed)
        for action in actions:
            self.act(action)
        return self._last

    def copied(self) -> Episode:
        """Return an independent copy at the same point of the episode."""
        if self._world.copy_by == "deepcopy":
            twin = copy.copy(self)
            twin.environment, twin.actions = copy.deepcopy(self.environment), list(self.actions)
            return twin
        twin = Episode(self._world)
        if not np.array_equal(twin.replay(self.seed, self.actions), self._last):
            raise RuntimeError(
                f"an environment of world {self._world.name!r} did not repeat its observations from seed and actions, so it can not be "
                "forked by replay; pass copy_by='deepcopy' if all of its state is in Python objects"
            )
        return twin


def _stacked(observations: Sequence[NDArray[np.float32]], world: GymnasiumWorld) -> Tensor:
    """Return observations as one tensor (n, *observation_shape) that shares no memory with the environments."""
    if not observations:
        return torch.empty(0, *world.observation_shape)
    return torch.from_numpy(np.stack(observations))
