"""Drivers: the one place where episodes are counted, truncated and begun anew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.worlds._world import State, World


@dataclass(slots=True)
class DriverStep:
    """What one step of `n` environments gave, of which `m` finished an episode there."""

    observation: Tensor
    """float32 (n, *observation_shape): o_{t+1}, or the first observation of the next episode where one finished."""
    reward: Tensor
    """float32 (n,): r_t."""
    terminated: Tensor
    """bool (n,): the episode reached a terminal state."""
    truncated: Tensor
    """bool (n,): the time limit cut an episode that had not terminated."""
    done: Tensor
    """int64 (m,): indices of the environments whose episode finished, ascending."""
    final_observation: Tensor
    """float32 (m, *observation_shape): the last observation o_T of each finished episode."""
    final_state: State
    """The last states s_T, leading dimension m; empty where the world keeps its state to itself."""
    final_factors: dict[str, Tensor]
    """Each factor's value at s_T, leading dimension m."""
    rewards: Tensor | None = None
    """float32 (n, n_rewards): what every reward function pays for this step; None where the world has one only."""


class Driver(ABC):
    """`n_envs` copies of a world that begin a new episode in the same step in which one finishes (no filler rows)."""

    world: World
    n_envs: int
    observation: Tensor
    """float32 (n, *observation_shape): the observation of the present step."""
    t: Tensor
    """int64 (n,): the step within the episode, 0 at its first observation."""

    @abstractmethod
    def reset(self) -> Tensor:
        """Begin new episodes everywhere and return their first observations."""

    @abstractmethod
    def step(self, action: Tensor) -> DriverStep:
        """Act in every environment; `action` is int64 (n,)."""

    @abstractmethod
    def factor_values(self) -> dict[str, Tensor]:
        """Return each factor's value in the present states."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the future depends on, the generator included, as a flat dict of tensors."""

    @abstractmethod
    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Continue bit for bit from what `state_dict` returned."""


def check_actions(action: Tensor, n_envs: int, n_actions: int) -> None:
    """Raise unless `action` is one legal action per environment."""
    if action.dtype != torch.int64 or action.shape != (n_envs,):
        raise ValueError(f"expected one int64 action per environment, shape ({n_envs},); got {action.dtype} {tuple(action.shape)}")
    low, high = action.aminmax()
    if low < 0 or high >= n_actions:
        raise ValueError(f"actions lie in 0 .. {n_actions - 1}; got values from {int(low)} to {int(high)}")


class VectorDriver(Driver):
    """Steps a world of pure functions as one batch.

    Parameters
    ----------
    world : World
        Any world that gives "simulation".
    n_envs : int
        Number of copies.
    generator : torch.Generator
        Source of all chance, owned by the driver from here on.

    Raises
    ------
    ValueError
        If `n_envs` is below 1.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import TMaze, VectorDriver
    >>> driver = VectorDriver(TMaze(length=3), n_envs=4, generator=torch.Generator().manual_seed(0))
    >>> step = driver.step(torch.zeros(4, dtype=torch.int64))
    >>> step.observation.shape, step.reward.shape, driver.t.tolist()
    (torch.Size([4, 4]), torch.Size([4]), [1, 1, 1, 1])
    """

    def __init__(self, world: World, n_envs: int, generator: torch.Generator) -> None:
        if n_envs < 1:
            raise ValueError(f"n_envs must be at least 1; got {n_envs}")
        self.world = world
        self.n_envs = n_envs
        self._generator = generator
        self._pays_several = "rewards" in world.gives
        self.reset()

    def reset(self) -> Tensor:
        """Begin new episodes everywhere and return their first observations."""
        self.state: State = self.world.reset(self.n_envs, self._generator)
        self.observation = self.world.observe(self.state, self._generator)
        self.t = torch.zeros(self.n_envs, dtype=torch.int64, device=self.observation.device)
        return self.observation

    @torch.no_grad()
    def step(self, action: Tensor) -> DriverStep:
        """Act in every environment; `action` is int64 (n,).

        Raises
        ------
        ValueError
            If an action is missing or is none of the world's.
        """
        check_actions(action, self.n_envs, self.world.n_actions)
        state, reward, terminated = self.world.step(self.state, action, self._generator)
        rewards = self.world.rewards(self.state, action, state) if self._pays_several else None
        t = self.t + 1
        out_of_time = t >= self.world.time_limit
        done = (out_of_time | terminated).nonzero().squeeze(1)
        final_state = {name: leaf.index_select(0, done) for name, leaf in state.items()}
        final_observation = self.world.observe(final_state, self._generator)
        if done.numel():
            state = self._renewed(state, done)
            t.index_fill_(0, done, 0)
        self.state, self.t = state, t
        self.observation = self.world.observe(state, self._generator)
        return DriverStep(
            observation=self.observation,
            reward=reward,
            terminated=terminated,
            truncated=out_of_time & ~terminated,
            done=done,
            final_observation=final_observation,
            final_state=final_state,
            final_factors=self.world.factor_values(final_state),
            rewards=rewards,
        )

    def _renewed(self, state: State, done: Tensor) -> State:
        """Put fresh initial states in the rows `done` of a copy (a world may hand its input leaves on)."""
        fresh = self.world.reset(done.numel(), self._generator)
        return {name: leaf.index_copy(0, done, fresh[name]) for name, leaf in state.items()}

    def factor_values(self) -> dict[str, Tensor]:
        """Return each factor's value in the present states."""
        return self.world.factor_values(self.state)

    def state_dict(self) -> dict[str, Tensor]:
        """Return states, observations, step counts and the generator's state."""
        kept = {f"state/{name}": leaf for name, leaf in self.state.items()}
        return {**kept, "observation": self.observation, "t": self.t, "generator": self._generator.get_state()}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Continue bit for bit from what `state_dict` returned.

        Raises
        ------
        ValueError
            If the entries are not those of a driver of this world, or of another number of environments.
        """
        expected = self.state_dict()
        if saved.keys() != expected.keys() or saved["t"].shape != self.t.shape:
            raise ValueError(
                f"expected the state of {self.n_envs} environments with entries {sorted(expected)}; got entries {sorted(saved)}; "
                "build the driver with the world and n_envs of the saved run"
            )
        self.state = {name: saved[f"state/{name}"].clone() for name in self.state}
        self.observation, self.t = saved["observation"].clone(), saved["t"].clone()
        self._generator.set_state(saved["generator"])
