"""Any Gymnasium environment with discrete actions as a world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from worldprobe.worlds._world import Factor, Headline, State, World

if TYPE_CHECKING:
    from worldprobe.worlds._gymnasium_driver import GymnasiumDriver

Environment = gymnasium.Env[Any, Any]
FactorFunction = Callable[[Environment], Mapping[str, Any]]
Encoder = Callable[[Any], NDArray[np.float32]]


class GymnasiumWorld(World):
    """A third-party environment: it can be driven, copied and asked for factors, but has no belief, tables or pure `step`.

    Parameters
    ----------
    env_fn : callable
        Returns a new `gymnasium.Env` with a `Discrete` action space, whose episodes are decided by the seed of its `reset`
        and the actions.
    name : str
        Name of the world.
    discount : float
        Discount per step.
    factors : tuple of Factor
        What the true state is described by.
    factor_function : callable
        Reads them: environment -> {name: class index, or array of `size` numbers}.
    headline : Headline, optional
        The cell the world's ladder is decided in; one step of the first factor, unless given.
    time_limit : int, optional
        Steps until truncation; that of the environment's spec, unless given.
    actions : mapping of str to int, optional
        Names and numbers of the environment's actions to use; all, unless given.
    observation_function : callable, optional
        Turns what the environment observes into an array of fixed shape. Unless given, a `Box` is taken as it is, and
        everything else goes through `gymnasium.spaces.flatten` (discrete parts become one-hots).
    copy_by : "replay" or "deepcopy"
        How an environment is copied in mid-episode for a fork: from its seed and actions, which is right for every
        deterministic environment, or by `copy.deepcopy`, which is faster where all of its state is in Python objects.

    Raises
    ------
    ValueError
        If the actions are not discrete, the observation has no fixed shape, no time limit is known, or the factor function
        does not return what `factors` declares.

    Examples
    --------
    >>> import gymnasium, torch
    >>> from worldprobe.worlds import Factor, GymnasiumWorld
    >>> world = GymnasiumWorld(
    ...     lambda: gymnasium.make("FrozenLake-v1", is_slippery=False),
    ...     name="lake",
    ...     discount=0.99,
    ...     factors=(Factor("cell", "categorical", 16),),
    ...     factor_function=lambda env: {"cell": env.unwrapped.s},
    ... )
    >>> world.observation_shape, world.n_actions, world.time_limit
    ((16,), 4, 100)
    >>> driver = world.driver(2, torch.Generator().manual_seed(0))
    >>> driver.step(torch.tensor([1, 2])).observation.argmax(1), driver.factor_values()
    (tensor([4, 1]), {'cell': tensor([4, 1])})
    """

    gives = frozenset({"snapshot"})

    def __init__(
        self,
        env_fn: Callable[[], Environment],
        *,
        name: str,
        discount: float,
        factors: tuple[Factor, ...],
        factor_function: FactorFunction,
        headline: Headline | None = None,
        time_limit: int | None = None,
        actions: Mapping[str, int] | None = None,
        observation_function: Callable[[Any], NDArray[Any]] | None = None,
        copy_by: Literal["replay", "deepcopy"] = "replay",
    ) -> None:
        if copy_by not in ("replay", "deepcopy"):
            raise ValueError(f"copy_by is 'replay' or 'deepcopy'; got {copy_by!r}")
        environment = env_fn()
        self.env_fn = env_fn
        self.name = name
        self.discount = discount
        self.factors = factors
        self.factor_function = factor_function
        self.headline = headline or Headline(factors[0].name, horizon=1)
        self.copy_by = copy_by
        self.time_limit = time_limit or _limit_of(environment, name)
        numbers = _actions_of(environment, name, actions)
        self.action_names, self.action_numbers = tuple(numbers), tuple(numbers.values())
        self.exploration = (1 / len(numbers),) * len(numbers)
        self.encode: Encoder = _encoder(environment, name, observation_function)
        observation, _ = environment.reset(seed=0)
        self.observation_shape = self.encode(observation).shape
        self.read_factors([environment])
        environment.close()

    def driver(self, n_envs: int, generator: torch.Generator) -> GymnasiumDriver:
        """Return `n_envs` environments that reset by themselves, seeded by `generator`."""
        from worldprobe.worlds._gymnasium_driver import GymnasiumDriver

        return GymnasiumDriver(self, n_envs, generator)

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Raise: the state is inside the environments, ask the driver."""
        raise self.unavailable("states as tensors; its driver gives `factor_values()` of the present ones")

    def read_factors(self, environments: Sequence[Environment]) -> dict[str, Tensor]:
        """Return each factor in each environment: int64 (n,), or float32 (n, size).

        Raises
        ------
        ValueError
            If the factor function's names, sizes or classes are not those declared.
        """
        rows = [self.factor_function(environment) for environment in environments]
        for row in rows:
            if row.keys() != {factor.name for factor in self.factors}:
                raise ValueError(f"factor_function of world {self.name!r} must return {[f.name for f in self.factors]}; got {sorted(row)}")
        return {factor.name: self._column(factor, [row[factor.name] for row in rows]) for factor in self.factors}

    def _column(self, factor: Factor, values: list[Any]) -> Tensor:
        """Return one factor's values in all environments as a tensor of the declared kind."""
        if factor.is_categorical:
            classes = torch.tensor([int(value) for value in values], dtype=torch.int64)
            if ((classes < 0) | (classes >= factor.size)).any():
                raise ValueError(
                    f"factor {factor.name!r} of world {self.name!r} has classes 0 .. {factor.size - 1}; got {classes.tolist()}"
                )
            return classes
        numbers = [np.asarray(value, np.float32).reshape(-1) for value in values]
        if any(len(number) != factor.size for number in numbers):
            raise ValueError(f"factor {factor.name!r} of world {self.name!r} has {factor.size} dimensions; got {[len(x) for x in numbers]}")
        return torch.from_numpy(np.stack(numbers)) if numbers else torch.empty(0, factor.size)


def _limit_of(environment: Environment, name: str) -> int:
    """Return the time limit of the environment's spec."""
    limit = environment.spec.max_episode_steps if environment.spec else None
    if limit is None:
        raise ValueError(f"the environment of world {name!r} states no max_episode_steps; pass time_limit")
    return limit


def _actions_of(environment: Environment, name: str, actions: Mapping[str, int] | None) -> dict[str, int]:
    """Return the names and numbers of the actions to use."""
    space = environment.action_space
    if not isinstance(space, spaces.Discrete):
        raise ValueError(f"a Q-learner needs Discrete actions; world {name!r} has {space}. Wrap it in a gymnasium.ActionWrapper")
    if actions is None:
        return {str(number): number for number in range(int(space.start), int(space.start + space.n))}
    if not actions or not all(space.contains(number) for number in actions.values()):
        raise ValueError(f"actions must be some of {space} of world {name!r}; got {dict(actions)}")
    return dict(actions)


def _encoder(environment: Environment, name: str, function: Callable[[Any], NDArray[Any]] | None) -> Encoder:
    """Return what turns an observation into a float32 array of its own (environments may reuse their buffers)."""
    space = environment.observation_space
    if function is not None:
        return lambda observation: np.array(function(observation), np.float32, order="C")
    if isinstance(space, spaces.Box):
        return lambda observation: np.array(observation, np.float32, order="C")
    try:
        spaces.flatdim(space)
    except (NotImplementedError, ValueError) as error:
        raise ValueError(f"{space} of world {name!r} has no fixed shape; pass observation_function, observation -> array") from error
    return lambda observation: np.array(spaces.flatten(space, observation), np.float32, order="C")
