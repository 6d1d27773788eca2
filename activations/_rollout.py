"""Rollouts: a behaviour acts through the world's driver, an equal quota of whole episodes in every copy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from worldprobe.activations._episodes import Array, Episodes
from worldprobe.activations._streams import Actor, Behaviour, Moment
from worldprobe.agents import seeded_generator
from worldprobe.worlds import Driver, DriverStep, State, VectorDriver, World

ReadSites = Callable[[Actor], dict[str, Tensor]]
"""Reads, after a step of an actor, what it holds, by key."""
FIRST_STEPS = 256
"""Steps for which a tape has room at first; the room is doubled when it is full."""


def play(
    world: World,
    behaviour: Behaviour,
    numbers: range,
    n_envs: int,
    seed: int,
    shard: int,
    held: ReadSites | None = None,
    tape: Tape | None = None,
) -> Callable[[], Episodes]:
    """Play the episodes `numbers` of shard `shard`, and return what cuts them from the tape.

    They hold what was received, done and true at every step, and at every end.

    Every copy of the world plays the same number of episodes (one more in the first copies where it does not divide);
    what a copy plays beyond its quota while others finish is dropped. `held` reads sites from the actor after each of its steps. Whoever
    plays shard after shard hands in the `tape` of a shard that was cut already: its memory is then asked for once.
    """
    n_envs = min(n_envs, len(numbers))
    quota = len(numbers) // n_envs + (np.arange(n_envs) < len(numbers) % n_envs)
    driver = world.driver(n_envs, seeded_generator(seed, "shard", shard, "world"))
    act = behaviour.begin(world, n_envs, seeded_generator(seed, "shard", shard, "behaviour"))
    tape = tape or Tape()
    tape.wind_back()
    left, moment = quota.copy(), Moment.first(driver.observation)
    while (left > 0).any():
        tape.show({"observation": moment.observation, **_truth(driver)})
        action = act(moment)
        if held is not None:
            tape.write(held(act))
        step = driver.step(action)
        tape.end_step(action, step)
        left[step.done.numpy()] -= 1
        moment = Moment.after(step, action)
    return partial(_cut, tape, world, np.asarray(numbers), quota)


class Tape:
    """What happened in all copies at once, step by step; wound back, it is written over."""

    def __init__(self) -> None:
        self._columns: dict[str, Array] = {}
        self._shown: list[dict[str, Tensor]] = []
        self._finals: list[dict[str, Tensor]] = []
        self._done: list[Array] = []

    def wind_back(self) -> None:
        """Forget what is on the tape; its memory is kept."""
        self._shown, self._finals, self._done = [], [], []

    def show(self, tensors: dict[str, Tensor]) -> None:
        """Keep copies of values that stand at the present step: a driver may overwrite what it handed out."""
        self._shown.append(_copied(tensors))

    def write(self, tensors: dict[str, Tensor]) -> None:
        """Copy wide values of the present step into memory that is asked for once."""
        time = len(self._done)
        for key, tensor in tensors.items():
            values = tensor.numpy()
            column = self._columns.get(key)
            if column is None or (time == 0 and column.shape[1:] != values.shape):
                column = self._columns[key] = np.empty((FIRST_STEPS, *values.shape), values.dtype)
            elif len(column) == time:
                column = self._columns[key] = np.concatenate([column, np.empty_like(column)])
            column[time] = values

    def end_step(self, action: Tensor, step: DriverStep) -> None:
        """Keep what the present step brought, and go on to the next."""
        brought = {"action": action, "reward": step.reward, "terminated": step.terminated, "truncated": step.truncated}
        self._shown[-1].update(_copied(brought))
        self._done.append(step.done.numpy().copy())
        if step.done.numel():
            state = {f"final_state/{name}": leaf for name, leaf in step.final_state.items()}
            factors = {f"final_factor/{name}": values for name, values in step.final_factors.items()}
            self._finals.append(_copied({"final_observation": step.final_observation, **state, **factors}))

    def rows(self, time: Array, copy: Array) -> dict[str, Tensor]:
        """Return every step key at some times in some copies."""
        shown = {key: torch.stack([each[key] for each in self._shown]).numpy() for key in self._shown[0]}
        return {key: torch.from_numpy(_taken(column, time, copy)) for key, column in {**shown, **self._columns}.items()}

    def ends(self) -> tuple[Array, Array, dict[str, Tensor]]:
        """Return time and copy of every episode's last step, and every `final_` key, in the order in which they came."""
        time = np.repeat(np.arange(len(self._done)), [done.size for done in self._done])
        finals = {key: torch.cat([final[key] for final in self._finals]) for key in self._finals[0]}
        return time, np.concatenate(self._done), finals


def _taken(column: Array, time: Array, copy: Array) -> Array:
    """Return `column[time, copy]`, whole rows at a time."""
    n = column.shape[1]
    return np.asarray(column.reshape(-1, *column.shape[2:]).take(time * n + copy, axis=0))


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies."""
    return {key: values.clone() for key, values in tensors.items()}


def _truth(driver: Driver) -> dict[str, Tensor]:
    """Return the state behind the present step, or its factors alone if the world keeps the state to itself."""
    if isinstance(driver, VectorDriver):
        return {f"state/{name}": leaf for name, leaf in driver.state.items()}
    return {f"factor/{name}": values for name, values in driver.factor_values().items()}


def _cut(tape: Tape, world: World, numbers: Array, quota: Array) -> Episodes:
    """Cut the tape into each copy's first `quota` episodes: the first of every copy, then the second, ..."""
    time, copy, finals = tape.ends()
    by_copy = np.lexsort((time, copy))
    time, copy = time[by_copy], copy[by_copy]
    ordinal = np.arange(copy.size) - np.searchsorted(copy, copy)
    begin = np.where(ordinal == 0, 0, np.roll(time, 1) + 1)
    kept = np.flatnonzero(ordinal < quota[copy])
    kept = kept[np.lexsort((copy[kept], ordinal[kept]))]
    length = time[kept] - begin[kept] + 1
    steps = np.repeat(begin[kept] - np.cumsum(length) + length, length) + np.arange(length.sum())
    ends = torch.from_numpy(by_copy[kept])
    arrays = tape.rows(steps, np.repeat(copy[kept], length)) | {key: values[ends] for key, values in finals.items()}
    return Episodes(numbers, length, {key: values.numpy() for key, values in _with_factors(world, arrays).items()})


def _with_factors(world: World, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the factors of the recorded states, all rows at once."""
    state: State = {key.removeprefix("state/"): leaf for key, leaf in arrays.items() if key.startswith("state/")}
    if not state:
        return arrays
    return {**arrays, **{f"factor/{name}": values for name, values in world.factor_values(state).items()}}
