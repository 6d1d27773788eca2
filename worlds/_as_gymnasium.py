"""Any world as a Gymnasium environment, so that learners of other libraries can be trained in it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from worldprobe.worlds._driver import Driver
from worldprobe.worlds._world import World

SEEDS = 2**31
"""Drivers are seeded by integers below this."""


class WorldEnv(gymnasium.Env[NDArray[np.float32], np.int64]):
    """One copy of a world, begun and stepped as Gymnasium says; what is true of it never shows in the observation.

    The opposite way, a Gymnasium environment as a world, is `GymnasiumWorld`.

    Parameters
    ----------
    world : World
        Any world. Its factors at the present step are in `infos["factors"]`: int or float32 (size,).

    Examples
    --------
    >>> from worldprobe.worlds import TMaze, WorldEnv
    >>> env = WorldEnv(TMaze(length=3, stochasticity=0))
    >>> observation, infos = env.reset(seed=0)
    >>> observation.shape, int(infos["factors"]["position"]), env.action_space
    ((4,), 0, Discrete(4))
    >>> env.step(0)[1:4]
    (0.0, False, False)
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (the form that Gymnasium asks for)

    def __init__(self, world: World) -> None:
        self.world = world
        self.observation_space = spaces.Box(-np.inf, np.inf, world.observation_shape, np.float32)
        self.action_space = spaces.Discrete(world.n_actions)
        self._driver: Driver | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; a seed decides this one and all that follow it."""
        super().reset(seed=seed)
        if self._driver is None or seed is not None:
            words = int(self.np_random.integers(SEEDS))
            self._driver = self.world.driver(1, torch.Generator().manual_seed(words))
        elif int(self._driver.t[0]) > 0:
            self._driver.reset()
        return _first(self._driver.observation), {"factors": _firsts(self._driver.factor_values())}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Act; after the last step of an episode `reset` must be called.

        Raises
        ------
        RuntimeError
            If no episode was begun.
        ValueError
            If the action is none of the world's.
        """
        if self._driver is None:
            raise RuntimeError("call reset() before step(): no episode was begun")
        step = self._driver.step(torch.tensor([int(action)]))
        ended = step.done.numel() > 0
        observation = step.final_observation if ended else step.observation
        factors = step.final_factors if ended else self._driver.factor_values()
        return _first(observation), float(step.reward[0]), bool(step.terminated[0]), bool(step.truncated[0]), {"factors": _firsts(factors)}


def _first(values: torch.Tensor) -> NDArray[Any]:
    """Return the only row, as an array of its own."""
    return np.array(values[0].cpu().numpy())


def _firsts(factors: dict[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    return {name: _first(values) for name, values in factors.items()}
