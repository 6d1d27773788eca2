"""Worlds with smooth dynamics, Gaussian noise and derivatives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from worldprobe.worlds._particles import N_GROUPS, ParticleFilter, ParticleWorld
from worldprobe.worlds._world import Capability, State


class SmoothWorld(ParticleWorld):
    """s' = f(s, force of a) + process noise, o = g(s) + observation noise, r = c(s, force, s') + reward noise, all Gaussian.

    A subclass gives f (`dynamics`), g (`sense`) and c (`pay`) as pure torch functions of vectors with any leading
    dimensions, its `reset` and its `factor_values`; simulation, particle filter and Jacobians follow. Where walls keep the state in
    bounds, noise included, it gives `confine`, too. A state in which the episode `has_ended` stays where it is and pays nothing.

    Parameters
    ----------
    forces : sequence of float
        The force of each action.
    process_noise : sequence of float
        Standard deviation per step of each state coordinate (d of them); 0 is allowed.
    observation_noise : sequence of float
        Standard deviation of each observation entry; 0 is allowed.
    reward_noise : float
        Standard deviation of the reward.
    n_particles : int
        Particles of a belief, a multiple of 4.
    dtype : torch.dtype
        float32 or float64: of states and beliefs. Observations and rewards are float32 always.

    Raises
    ------
    ValueError
        If a noise is negative, or `n_particles` no positive multiple of 4.

    Notes
    -----
    There is a belief if some process noise and all observation noise is positive: without the first, particles are never
    renewed; without the second, no particle ever agrees with an observation.
    """

    def __init__(
        self,
        *,
        forces: Sequence[float],
        process_noise: Sequence[float],
        observation_noise: Sequence[float],
        reward_noise: float = 0.0,
        n_particles: int = 1000,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if min(*process_noise, *observation_noise, reward_noise) < 0:
            raise ValueError(f"noise is a standard deviation, at least 0; got {process_noise}, {observation_noise}, {reward_noise}")
        if n_particles < N_GROUPS or n_particles % N_GROUPS:
            raise ValueError(f"n_particles must be a positive multiple of {N_GROUPS}; got {n_particles}")
        self.forces = torch.tensor(forces, dtype=dtype)
        self.process_noise = torch.tensor(process_noise, dtype=dtype)
        self.observation_noise = torch.tensor(observation_noise, dtype=dtype)
        self.reward_noise = reward_noise
        self.n_particles = n_particles
        self.dtype = dtype
        self.observation_shape = (len(observation_noise),)
        self.exploration = (1 / len(forces),) * len(forces)
        capabilities: set[Capability] = {"simulation", "jacobian"}
        if max(process_noise) > 0 and min(observation_noise) > 0:
            capabilities.add("belief")
        self.gives = frozenset(capabilities)

    @abstractmethod
    def dynamics(self, vector: Tensor, force: Tensor) -> Tensor:
        """Return the noiseless next state: (..., d), (...) -> (..., d). Pure and differentiable."""

    @abstractmethod
    def sense(self, vector: Tensor) -> Tensor:
        """Return the noiseless observation: (..., d) -> (..., observation_size)."""

    @abstractmethod
    def pay(self, vector: Tensor, force: Tensor, following: Tensor) -> Tensor:
        """Return the noiseless reward: (..., d), (...), (..., d) -> (...)."""

    def confine(self, vector: Tensor) -> Tensor:
        """Return where walls put a state that went out of bounds: (..., d) -> (..., d). There are none, unless a world says otherwise."""
        return vector

    def has_ended(self, vector: Tensor) -> Tensor:
        """Return whether a state is terminal: (..., d) -> bool (...). Nowhere, unless a world says otherwise."""
        return torch.zeros(vector.shape[:-1], dtype=torch.bool, device=vector.device)

    # --- simulation -----------------------------------------------------------------------------------------------

    def observe(self, state: State, generator: torch.Generator) -> Tensor:
        """Draw the observation of each state, float32 (n, observation_size)."""
        seen = self.sense(state["vector"])
        return (seen + self.observation_noise.to(seen.device) * _normal(seen, generator)).float()

    def step(self, state: State, action: Tensor, generator: torch.Generator) -> tuple[State, Tensor, Tensor]:
        """Move every state by its action: (next state, reward float32 (n,), terminated bool (n,))."""
        before = state["vector"]
        force = self.forces.to(before.device)[action]
        moved = self.dynamics(before, force) + self.process_noise.to(before.device) * _normal(before, generator)
        ended = self.has_ended(before)
        following = torch.where(ended.unsqueeze(-1), before, self.confine(moved))
        reward = self.pay(before, force, following)
        if self.reward_noise:
            reward = reward + self.reward_noise * _normal(reward, generator)
        return {"vector": following}, reward.masked_fill(ended, 0.0).float(), self.has_ended(following)

    def jacobian(self, state: State, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives of the noiseless next state by the state (n, d, d) and by the force (n, d).

        Entry [i, j, k] of the first is d s'_j / d s_k of row i, of a running episode. At the edge itself, where a wall is just reached
        or a bound just met, the derivative is that of one side.
        """
        differentiate = torch.func.vmap(torch.func.jacrev(lambda vector, force: self.confine(self.dynamics(vector, force)), argnums=(0, 1)))
        by_state, by_force = differentiate(state["vector"], self.forces.to(action.device)[action])
        return by_state, by_force

    # --- belief ---------------------------------------------------------------------------------------------------

    def belief_filter(self, channels: frozenset[str]) -> ParticleFilter:
        """Return the particle filter that conditions on exactly `channels` (and on the episode going on).

        Raises
        ------
        Unavailable
            If some noise it needs is zero.
        """
        if "belief" in self.gives and "reward" in channels and self.reward_informs and not self.reward_noise:
            raise self.unavailable("filter on noiseless rewards (no particle agrees with one): set reward_noise, or leave the channel out")
        return super().belief_filter(channels)

    def log_likelihood(self, vector: Tensor, observation: Tensor) -> Tensor:
        """Return log p(observation | vector) up to a constant."""
        error = (observation - self.sense(vector)) / self.observation_noise.to(vector.device)
        return -0.5 * error.square().sum(-1)

    def reward_log_likelihood(self, vector: Tensor, action: Tensor, following: Tensor, reward: Tensor) -> Tensor:
        """Return log p(reward | vector, action, following) up to a constant."""
        expected = self.pay(vector, self.forces.to(vector.device)[action], following)
        return -0.5 * ((reward - expected) / self.reward_noise).square()


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers in the shape of `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def wrong_factor(generator: torch.Generator) -> float:
    """Draw what a constant of a counterfeit law is multiplied by: log-uniform in [1/4, 1/2] or [2, 4]."""
    power, side = torch.rand(2, generator=generator, device=generator.device).tolist()
    return float(2 ** (1 + power)) if side < 0.5 else float(2 ** (-1 - power))
