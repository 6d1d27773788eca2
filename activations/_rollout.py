"""Rollouts: a behaviour acts through the world's driver, an equal quota of whole episodes in every copy."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worldprobe.activations._episodes import Array, Episodes
from worldprobe.activations._held import HeldSites
from worldprobe.activations._streams import Behaviour, GreedyActor, Moment
from worldprobe.agents import seeded_generator
from worldprobe.worlds import Driver, DriverStep, State, VectorDriver, World


def play(world: World, behaviour: Behaviour, numbers: range, n_envs: int, seed: int, shard: int, held: HeldSites | None = None) -> Episodes:
    """Play the episodes `numbers` of shard `shard`: what was received, done and true at every step, and at every end.

    Every copy of the world plays the same number of episodes (one more in the first copies where it does not divide);
    what a copy plays beyond its quota while others finish is dropped. `held` are the sites to be taken from a greedy actor.
    """
    n_envs = min(n_envs, len(numbers))
    quota = len(numbers) // n_envs + (np.arange(n_envs) < len(numbers) % n_envs)
    driver = world.driver(n_envs, seeded_generator(seed, "shard", shard, "world"))
    act = behaviour.begin(world, n_envs, seeded_generator(seed, "shard", shard, "behaviour"))
    tape = _Tape()
    left, moment = quota.copy(), Moment.first(driver.observation)
    while (left > 0).any():
        before = _copied({"observation": moment.observation, **_truth(driver)})
        action = act(moment)
        if held is not None and isinstance(act, GreedyActor):
            before |= held.of(act.core_state, act.q_values)
        step = driver.step(action)
        tape.add(before, action, step)
        left[step.done.numpy()] -= 1
        moment = Moment.after(step, action)
    return _cut(tape, world, np.asarray(numbers), quota)


class _Tape:
    """What happened in all copies at once, step by step."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Tensor]] = []
        self._finals: list[dict[str, Tensor]] = []
        self._done: list[Array] = []

    def add(self, before: dict[str, Tensor], action: Tensor, step: DriverStep) -> None:
        """Keep one step: what stood before it, and what it brought."""
        brought = {"action": action, "reward": step.reward, "terminated": step.terminated, "truncated": step.truncated}
        self._rows.append(before | _copied(brought))
        self._done.append(step.done.numpy().copy())
        if step.done.numel():
            state = {f"final_state/{name}": leaf for name, leaf in step.final_state.items()}
            factors = {f"final_factor/{name}": values for name, values in step.final_factors.items()}
            self._finals.append(_copied({"final_observation": step.final_observation, **state, **factors}))

    def rows(self, time: Array, copy: Array) -> dict[str, Tensor]:
        """Return every step key at some times in some copies."""
        flat = torch.from_numpy(time * len(self._rows[0]["action"]) + copy)
        small = [key for key in self._rows[0] if not key.startswith("site/")]
        gathered = {key: torch.stack([row[key] for row in self._rows]).flatten(0, 1)[flat] for key in small}
        wide = [key for key in self._rows[0] if key.startswith("site/")]
        return gathered | {key: _gather([row[key].numpy() for row in self._rows], time, copy) for key in wide}

    def ends(self) -> tuple[Array, Array, dict[str, Tensor]]:
        """Return time and copy of every episode's last step, and every `final_` key, in the order in which they came."""
        time = np.repeat(np.arange(len(self._done)), [done.size for done in self._done])
        finals = {key: torch.cat([final[key] for final in self._finals]) for key in self._finals[0]}
        return time, np.concatenate(self._done), finals


def _gather(steps: list[Array], time: Array, copy: Array) -> Tensor:
    """Return `np.stack(steps)[time, copy]`, step by step: wide rows are moved once, from the processor's cache."""
    gathered = np.empty((time.size, *steps[0].shape[1:]), steps[0].dtype)
    order = np.argsort(time, kind="stable")
    bounds = np.searchsorted(time[order], np.arange(len(steps) + 1))
    for values, first, last in zip(steps, bounds[:-1], bounds[1:], strict=True):
        places = order[first:last]
        gathered[places] = values[copy[places]]
    return torch.from_numpy(gathered)


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies: a driver may overwrite what it handed out."""
    return {key: values.clone() for key, values in tensors.items()}


def _truth(driver: Driver) -> dict[str, Tensor]:
    """Return the state behind the present step, or its factors alone if the world keeps the state to itself."""
    if isinstance(driver, VectorDriver):
        return {f"state/{name}": leaf for name, leaf in driver.state.items()}
    return {f"factor/{name}": values for name, values in driver.factor_values().items()}


def _cut(tape: _Tape, world: World, numbers: Array, quota: Array) -> Episodes:
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
