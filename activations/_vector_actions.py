"""What a Gymnasium space of actions asks of a policy, and how its actions are recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from worldprobe.activations._episodes import Array


class Actions:
    """What a space of actions asks of a policy, and how its actions are recorded."""

    def __init__(self, space: spaces.Space[Any], n_envs: int, epsilon: float) -> None:
        if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Box):
            raise ValueError(f"expected actions that are one array (Discrete, MultiDiscrete, MultiBinary, Box); got {space}")
        if epsilon and not isinstance(space, spaces.Discrete):
            raise ValueError(f"epsilon > 0 draws one of finitely many actions, Discrete; got {space}")
        self.space = space
        self.shape = (n_envs, *(space.shape or ()))
        self.epsilon = epsilon
        self.start = int(space.start) if isinstance(space, spaces.Discrete) else 0

    def check(self, action: Array) -> Array:
        """Return the policy's actions if they have the form that the environment takes."""
        if action.shape != self.shape:
            hint = "; one-hot actions become numbers by argmax(-1)" if action.ndim == len(self.shape) + 1 else ""
            raise ValueError(f"expected actions of shape {self.shape} for {self.space}; the policy gave {action.shape}{hint}")
        if isinstance(self.space, spaces.Discrete) and not np.isin(action, np.arange(self.start, self.start + int(self.space.n))).all():
            raise ValueError(f"expected actions in {self.space}; the policy gave {np.unique(action).tolist()}")
        return action

    def explored(self, action: Array, chance: torch.Generator) -> Array:
        """Return the actions that are taken."""
        if not self.epsilon or not isinstance(self.space, spaces.Discrete):
            return action
        explores = torch.rand(len(action), generator=chance) < self.epsilon
        uniform = torch.randint(int(self.space.n), (len(action),), generator=chance) + self.start
        return np.where(explores.numpy(), uniform.numpy(), action)

    def as_recorded(self, action: Array) -> Array:
        """Return int64 numbers from 0, or float32 for continuous actions."""
        return action.astype(np.float32) if isinstance(self.space, spaces.Box) else action.astype(np.int64) - self.start
