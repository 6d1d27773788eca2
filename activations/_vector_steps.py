"""Gymnasium environments step by step: one meaning of a step, whatever the autoreset mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import iterate

from worldprobe.activations._describe import describe
from worldprobe.activations._episodes import Array

Environment = gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class Begun:
    """What the environments show before a step."""

    observation: Any
    """o_t as the environment gives it."""
    reset: Array
    """bool (n,): where an episode begins."""
    live: Array
    """bool (n,): where a step is taken; elsewhere the environment only begins anew."""


@dataclass(frozen=True)
class Moved:
    """What a step brought."""

    reward: Array
    terminated: Array
    truncated: Array
    """bool (n,): ended without the world having ended it."""
    final: Array
    """float32: o_T where an episode ended, (n_ended, *observation_shape)."""

    @property
    def ended(self) -> Array:
        """Where an episode ended, bool (n,)."""
        return self.terminated | self.truncated


class VectorSteps:
    """A Gymnasium environment, single or vector, that begins episodes by itself.

    The three autoreset modes say what follows the last step of an episode. Next-step: the observation is o_T, and the next call of `step`
    ignores its action and returns o_0 of the next episode. Same-step: the observation is o_0 of the next episode already, and o_T is in
    `infos["final_obs"]`. Disabled: the observation is o_T, and `reset` must be called with a mask.

    Raises
    ------
    TypeError
        If the environment is none of Gymnasium's.
    ValueError
        If a vector environment does not state its autoreset mode, or observations have no fixed shape.
    """

    def __init__(self, environment: Environment) -> None:
        self.env = _as_vector(environment)
        self.n_envs: int = self.env.num_envs
        mode = self.env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ValueError(f"{self.env} must state its autoreset mode: metadata['autoreset_mode'], an AutoresetMode; got {mode!r}")
        self.mode = mode
        self.space: spaces.Space[Any] = self.env.single_observation_space
        if not isinstance(self.space, spaces.Box) and not self.space.is_np_flattenable:
            raise ValueError(f"{self.space} of {self.env} has no fixed shape: wrap the environment so that it observes arrays")
        self.observation_shape = self.space.shape if isinstance(self.space, spaces.Box) else (spaces.flatdim(self.space),)
        self.begun = Begun(None, np.zeros(0, bool), np.zeros(0, bool))
        self._unfinished: tuple[Any, Array, Array] = (None, np.zeros(0, bool), np.zeros(0, bool))

    @property
    def keeps_final_state(self) -> bool:
        """Whether an environment still holds s_T after the last step of an episode."""
        return self.mode is not AutoresetMode.SAME_STEP

    def reset(self, seed: int) -> None:
        """Begin new episodes everywhere."""
        observation, _ = self.env.reset(seed=seed)
        everywhere = np.ones(self.n_envs, dtype=bool)
        self.begun = Begun(observation, everywhere, everywhere)

    def step(self, action: Array) -> Moved:
        """Step the environments; where none is live its action is ignored and nothing ends."""
        observation, reward, terminated, truncated, infos = self.env.step(action)
        live = self.begun.live
        moved_on = np.asarray(terminated) & live, np.asarray(truncated) & ~np.asarray(terminated) & live
        ended = moved_on[0] | moved_on[1]
        final = self._final(observation, infos, ended)
        self._unfinished = (observation, ended, ~live)
        return Moved(np.asarray(reward, np.float32), *moved_on, final)

    def advance(self) -> None:
        """Go on to the next step: begin new episodes where they ended, if the environment does not do so itself."""
        observation, ended, filled = self._unfinished
        everywhere = np.ones(self.n_envs, dtype=bool)
        match self.mode:
            case AutoresetMode.NEXT_STEP:
                self.begun = Begun(observation, filled, ~ended)
            case AutoresetMode.SAME_STEP:
                self.begun = Begun(observation, ended, everywhere)
            case _:
                begun = self.env.reset(options={"reset_mask": ended.copy()})[0] if ended.any() else observation
                self.begun = Begun(begun, ended, everywhere)

    def encode(self, observation: Any) -> Array:
        """Return observations of all environments as float32 (n, *observation_shape); all but boxes are flattened, classes as one-hots."""
        if isinstance(self.space, spaces.Box):
            return np.array(observation, np.float32)
        return self._encode_each(list(iterate(self.env.observation_space, observation)))

    def _encode_each(self, observations: list[Any]) -> Array:
        """Return single observations as float32 (len, *observation_shape)."""
        flat = [spaces.flatten(self.space, each) if not isinstance(self.space, spaces.Box) else each for each in observations]
        return np.array(flat, np.float32).reshape(-1, *self.observation_shape)

    def _final(self, observation: Any, infos: dict[str, Any], ended: Array) -> Array:
        """Return o_T of the episodes that ended."""
        if not ended.any():
            return np.empty((0, *self.observation_shape), np.float32)
        if self.keeps_final_state:
            return self.encode(observation)[ended]
        if "final_obs" not in infos:
            raise ValueError(f"{self.env} resets in the same step but gives no infos['final_obs']: the last observation would be lost")
        return self._encode_each([infos["final_obs"][i] for i in np.flatnonzero(ended)])


def _as_vector(environment: Any) -> VectorEnv[Any, Any, Any]:
    """Return a vector environment; a single one becomes a vector of one, reset by us."""
    if isinstance(environment, VectorEnv):
        return environment
    if isinstance(environment, gymnasium.Env):
        return SyncVectorEnv([lambda: environment], autoreset_mode=AutoresetMode.DISABLED)
    raise TypeError(
        f"expected a gymnasium.Env or a gymnasium.vector.VectorEnv, got a {type(environment).__name__}; an environment that another "
        "library wrapped into vectors of its own is recorded from what it was made of"
    )


def describe_environment(steps: VectorSteps) -> dict[str, Any]:
    """Return what a recording says of the world where it is a Gymnasium environment: no more than it says of itself."""
    outer, single = steps.env.unwrapped, getattr(steps.env.unwrapped, "envs", [None])[0]
    spec = outer.spec or (single.spec if single else None)
    action, start = steps.env.single_action_space, getattr(steps.env.single_action_space, "start", 0)
    return {
        "name": spec.id if spec else type(single.unwrapped if single else outer).__name__,
        "class": f"{type(outer).__module__}.{type(outer).__qualname__}",
        "parameters": {
            "kwargs": describe(spec.kwargs if spec else {}),
            "wrappers": _wrappers(steps.env) + (_wrappers(single) if single else []),
            "autoreset_mode": steps.mode.value,
            "observation_space": str(steps.space),
            "action_space": str(action),
        },
        "actions": [str(number) for number in range(start, start + int(action.n))] if isinstance(action, spaces.Discrete) else [],
        "observation_shape": list(steps.observation_shape),
        "discount": None,
        "time_limit": spec.max_episode_steps if spec else None,
    }


def _wrappers(environment: Any) -> list[str]:
    """Return the names of the wrappers around an environment, outermost first."""
    names = []
    while environment is not environment.unwrapped:
        names.append(type(environment).__name__)
        environment = environment.env
    return names
