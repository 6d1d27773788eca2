"""The adapter: what it lets through, episodes that end in the same step, exact resume, and forks that leave no trace."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldprobe.worlds import DriverStep, Factor, GymnasiumDriver, GymnasiumWorld, Unavailable, minigrid_memory, popgym_repeat

CopyBy = Literal["replay", "deepcopy"]


class Stairs(gymnasium.Env[np.ndarray[Any, Any], Any]):
    """Climb (action 1) or rest; slips down by chance; the 4th stair ends it. All share one observation buffer, the worst habit."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space: spaces.Space[Any] = spaces.Discrete(2)

    buffer = np.zeros(2, np.float32)

    def __init__(self, cut_after: int = 1000) -> None:
        self.cut_after = cut_after

    def observed(self) -> np.ndarray[Any, Any]:
        self.buffer[:] = self.stair, self.mark
        return self.buffer

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.stair, self.age, self.mark = 0, 0, self.np_random.random()
        return self.observed(), {}

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        self.age += 1
        self.mark = self.np_random.random()
        self.stair = max(0, self.stair - 1) if self.np_random.random() < 0.2 else self.stair + int(action)
        return self.observed(), float(self.stair) - 0.5, self.stair >= 4, self.age >= self.cut_after, {}


class Undecided(Stairs):
    """Draws chance that its seed does not decide."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.mark = random.SystemRandom().random()
        return self.observed(), {}


def read(environment: Any) -> dict[str, Any]:
    return {"stair": environment.unwrapped.stair, "mark": environment.unwrapped.mark}


FACTORS = (Factor("stair", "categorical", 5), Factor("mark", "continuous", 1))


def stairs(env_fn: Callable[[], Any] = Stairs, time_limit: int = 9, copy_by: CopyBy = "replay") -> GymnasiumWorld:
    return GymnasiumWorld(
        env_fn, name="stairs", discount=0.9, factors=FACTORS, factor_function=read, time_limit=time_limit, copy_by=copy_by
    )


BUILDERS: dict[str, Callable[[], GymnasiumWorld]] = {"stairs": stairs, "minigrid": minigrid_memory, "popgym": popgym_repeat}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def actions_for(world: GymnasiumWorld, n_steps: int, n: int, seed: int = 1) -> Tensor:
    return torch.randint(world.n_actions, (n_steps, n), generator=generator(seed))


def leaves(step: DriverStep, driver: GymnasiumDriver) -> list[Tensor]:
    tensors = [step.observation, step.reward, step.terminated, step.truncated, step.done, step.final_observation, driver.t]
    return [*tensors, *step.final_factors.values(), *driver.factor_values().values()]


def identical(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# --- the driver against a plain loop --------------------------------------------------------------------------------


@pytest.mark.parametrize("cut_after", [5, 1000])
def test_driver_is_a_plain_loop_that_loses_nothing(cut_after: int) -> None:
    world, n = stairs(lambda: Stairs(cut_after), time_limit=9), 3
    driver = world.driver(n, generator())
    assert isinstance(driver, GymnasiumDriver)
    seeds = generator()

    def begin(env: Stairs) -> np.ndarray[Any, Any]:
        return env.reset(seed=int(torch.randint(2**31 - 1, (), generator=seeds)))[0].copy()

    environments, ages = [Stairs(cut_after) for _ in range(n)], [0] * n
    first = np.stack([begin(env) for env in environments])
    np.testing.assert_array_equal(driver.observation, first)
    n_terminated = n_truncated = 0
    for action in actions_for(world, 400, n):
        step = driver.step(action)
        results = []
        for i, env in enumerate(environments):
            observation, reward, terminated, cut, _ = env.step(int(action[i]))
            ages[i] += 1
            results.append((observation.copy(), reward, terminated, not terminated and (cut or ages[i] >= 9), read(env)))
        done = [i for i, result in enumerate(results) if result[2] or result[3]]
        assert step.done.tolist() == done
        assert step.reward.tolist() == [result[1] for result in results]
        assert step.terminated.tolist() == [result[2] for result in results]
        assert step.truncated.tolist() == [result[3] for result in results]
        for row, i in enumerate(done):
            np.testing.assert_array_equal(step.final_observation[row], results[i][0])
            assert step.final_factors["stair"][row] == results[i][4]["stair"]
            assert float(step.final_factors["mark"][row, 0]) == np.float32(results[i][4]["mark"])
        now = [begin(env) if i in done else results[i][0] for i, env in enumerate(environments)]
        ages = [0 if i in done else age for i, age in enumerate(ages)]
        np.testing.assert_array_equal(step.observation, np.stack(now))
        assert driver.t.tolist() == ages
        assert driver.factor_values()["stair"].tolist() == [env.stair for env in environments]
        n_terminated, n_truncated = n_terminated + int(step.terminated.sum()), n_truncated + int(step.truncated.sum())
    assert n_terminated > 10
    assert n_truncated > 10


def test_reaching_the_end_in_the_last_allowed_step_is_termination() -> None:
    world = stairs(time_limit=4)
    driver = world.driver(64, generator())
    for _ in range(4):
        step = driver.step(torch.ones(64).long())
    arrived = step.final_factors["stair"] == 4
    assert 0 < int(arrived.sum()) < 64
    assert torch.equal(step.terminated, arrived)
    assert torch.equal(step.truncated, ~arrived)


def test_what_was_returned_does_not_change_later() -> None:
    world = stairs()
    driver = world.driver(2, generator())
    step = driver.step(torch.ones(2).long())
    kept = step.observation.clone()
    driver.step(torch.ones(2).long())
    assert torch.equal(step.observation, kept)


# --- resume ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_before", [0, 37])
@pytest.mark.parametrize("name", BUILDERS)
def test_resume_is_bit_exact_through_a_file(name: str, n_before: int, tmp_path: Path) -> None:
    world = BUILDERS[name]()
    driver = world.driver(3, generator())
    for action in actions_for(world, n_before, 3):
        driver.step(action)
    save_file(driver.state_dict(), tmp_path / "driver.safetensors")
    resumed = world.driver(3, generator(99))
    resumed.load_state_dict(load_file(tmp_path / "driver.safetensors"))
    assert torch.equal(resumed.observation, driver.observation)
    for action in actions_for(world, 80, 3, seed=2):
        assert identical(leaves(driver.step(action), driver), leaves(resumed.step(action), resumed))


def test_an_environment_that_does_not_repeat_itself_is_refused() -> None:
    world = stairs(Undecided)
    saved = world.driver(2, generator()).state_dict()
    driver = world.driver(2, generator())
    before = driver.observation
    with pytest.raises(RuntimeError, match=r"environments \[0, 1\] of world 'stairs' did not repeat"):
        driver.load_state_dict(saved)
    assert torch.equal(driver.observation, before)
    with pytest.raises(RuntimeError, match="can not be forked by replay"):
        driver.fork(torch.tensor([0]))


def test_changed_actions_are_noticed() -> None:
    world = stairs()
    driver = world.driver(2, generator())
    for _ in range(3):
        driver.step(torch.ones(2).long())
    saved = driver.state_dict()
    saved["actions"][1, 0] = 0
    with pytest.raises(RuntimeError, match=r"environments \[1\]"):
        driver.load_state_dict(saved)


def test_state_of_another_number_of_environments_is_refused() -> None:
    world = stairs()
    with pytest.raises(ValueError, match="expected the state of 3 environments"):
        world.driver(3, generator()).load_state_dict(world.driver(2, generator()).state_dict())


# --- forks ----------------------------------------------------------------------------------------------------------


def copying(name: str, copy_by: CopyBy) -> GymnasiumWorld:
    world = BUILDERS[name]()
    world.copy_by = copy_by
    return world


@pytest.mark.parametrize("copy_by", ["replay", "deepcopy"])
@pytest.mark.parametrize("name", BUILDERS)
def test_forks_leave_no_trace_and_live_the_original_future(name: str, copy_by: CopyBy) -> None:
    world = copying(name, copy_by)
    driver, untouched = world.driver(3, generator()), world.driver(3, generator())
    for action in actions_for(world, 12, 3):
        driver.step(action)
        untouched.step(action)
    wild, faithful = driver.fork(torch.tensor([2, 0, 0, 1])), driver.fork(torch.arange(3))
    assert torch.equal(faithful.observation, driver.observation)
    saved = driver.state_dict()
    for action in actions_for(world, 10, 4, seed=5):
        wild.step(action)
    assert all(torch.equal(leaf, saved[key]) for key, leaf in driver.state_dict().items())
    gone = torch.zeros(3).bool()
    for action in actions_for(world, 60, 3, seed=6):
        step, expected = driver.step(action), untouched.step(action)
        assert identical(leaves(step, driver), leaves(expected, untouched))
        forked = faithful.step(action)
        going = ~gone & ~step.terminated & ~step.truncated
        assert torch.equal(forked.observation[going], step.observation[going])
        assert torch.equal(forked.reward[~gone], step.reward[~gone])
        assert torch.equal(forked.terminated[~gone], step.terminated[~gone])
        for factor, values in faithful.factor_values().items():
            assert torch.equal(values[going], driver.factor_values()[factor][going])
        gone |= step.terminated | step.truncated


def test_a_fork_that_ended_stays_as_it_ended() -> None:
    world = stairs(time_limit=100)
    fork = world.driver(4, generator()).fork(torch.arange(4))
    for _ in range(60):
        step = fork.step(torch.ones(4).long())
    assert step.terminated.all()
    last, factors = step.observation, fork.factor_values()
    step = fork.step(torch.zeros(4).long())
    assert torch.equal(step.observation, last)
    assert step.reward.tolist() == [0.0] * 4
    assert torch.equal(fork.factor_values()["mark"], factors["mark"])


# --- observations and refusals --------------------------------------------------------------------------------------


class Showing(Stairs):
    """Shows the first sample of a space."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__()
        self.observation_space = space  # type: ignore[assignment]  # the point of this class
        space.seed(0)
        self.shown = space.sample()

    def observed(self) -> Any:
        return self.shown


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (spaces.Box(0, 255, (2, 3), np.uint8), (2, 3)),
        (spaces.Discrete(4, start=2), (4,)),
        (spaces.MultiDiscrete([2, 3]), (5,)),
        (spaces.MultiBinary(3), (3,)),
        (spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(-1, 1, (2, 2))}), (6,)),
        (spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (1,)))), (4,)),
    ],
    ids=lambda part: type(part).__name__ if isinstance(part, spaces.Space) else None,
)
def test_observations_become_arrays_of_fixed_shape(space: spaces.Space[Any], shape: tuple[int, ...]) -> None:
    world = stairs(lambda: Showing(space))
    observation = world.driver(2, generator()).observation
    assert world.observation_shape == shape
    assert observation.dtype == torch.float32
    sample = Showing(space).shown
    expected = sample if isinstance(space, spaces.Box) else spaces.flatten(space, sample)
    np.testing.assert_array_equal(observation[1], np.asarray(expected, np.float32))


def test_discrete_observations_are_one_hots() -> None:
    space = spaces.Discrete(4, start=2)
    observation = stairs(lambda: Showing(space)).driver(1, generator()).observation[0]
    assert observation.argmax() + 2 == Showing(space).shown
    assert observation.sum() == 1


def test_an_observation_without_a_fixed_shape_needs_a_function() -> None:
    space = spaces.Sequence(spaces.Discrete(2))
    with pytest.raises(ValueError, match="no fixed shape; pass observation_function"):
        stairs(lambda: Showing(space))


class Steering(Stairs):
    action_space = spaces.Box(-1, 1, (1,))


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs Discrete actions; world 'stairs' has Box"):
        stairs(Steering)


def build(**changed: Any) -> GymnasiumWorld:
    given: dict[str, Any] = {"name": "stairs", "discount": 0.9, "factors": FACTORS, "factor_function": read, "time_limit": 9}
    return GymnasiumWorld(Stairs, **{**given, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"time_limit": None}, "no max_episode_steps; pass time_limit"),
        ({"actions": {"fly": 7}}, r"actions must be some of Discrete\(2\)"),
        ({"actions": {}}, "actions must be some of"),
        ({"copy_by": "magic"}, "copy_by is 'replay' or 'deepcopy'; got 'magic'"),
        ({"factor_function": lambda env: {"stair": 0}}, r"must return \['stair', 'mark'\]; got \['stair'\]"),
        ({"factor_function": lambda env: {"stair": 5, "mark": 0.0}}, r"classes 0 .. 4; got \[5\]"),
        ({"factor_function": lambda env: {"stair": 0, "mark": [0.0, 1.0]}}, r"1 dimensions; got \[2\]"),
    ],
)
def test_misfits_are_named_before_anything_runs(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changed)


def test_what_an_environment_can_not_give_is_said_in_words() -> None:
    world = stairs()
    with pytest.raises(Unavailable, match=r"world 'stairs' has no pure simulation .*it gives snapshot"):
        world.reset(1, generator())
    with pytest.raises(Unavailable, match="exact belief filter"):
        world.belief_filter(frozenset({"action"}))
    with pytest.raises(Unavailable, match="no states as tensors; its driver gives"):
        world.factor_values({})


@pytest.mark.parametrize("action", [torch.zeros(3).long(), torch.zeros(2), torch.tensor([0, 2])])
def test_wrong_actions_are_refused(action: Tensor) -> None:
    with pytest.raises(ValueError, match="action"):
        stairs().driver(2, generator()).step(action)


def test_an_observation_function_may_reuse_its_array() -> None:
    scratch = np.zeros(1)

    def mark(observation: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        scratch[0] = observation[1]
        return scratch

    driver = build(observation_function=mark).driver(3, generator())
    assert torch.equal(driver.observation, driver.factor_values()["mark"])


def test_actions_can_be_chosen_and_renumbered() -> None:
    world = build(actions={"climb": 1})
    assert (world.action_names, world.n_actions) == (("climb",), 1)
    driver = world.driver(20, generator())
    driver.step(torch.zeros(20).long())
    assert (driver.factor_values()["stair"] == 1).double().mean() > 0.5


# --- worlds nobody here wrote ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 9])
@pytest.mark.parametrize("follow", [True, False])
def test_minigrid_cue_and_upper_object_decide_where_the_reward_is(size: int, follow: bool) -> None:
    world = minigrid_memory(size)
    driver = world.driver(12, generator(3))
    factors = driver.factor_values()
    assert set(factors["cue"].tolist()) == set(factors["upper_object"].tolist()) == {0, 1}
    assert (factors["row"] == size // 2).all()
    assert (factors["direction"] == 0).all()
    up = (factors["cue"] == factors["upper_object"]) == follow
    for i in range(12):
        fork = driver.fork(torch.tensor([i]))
        walk = [2] * (size - 2 - int(factors["column"][i])) + [0 if up[i] else 1, 2]
        for action in walk:
            step = fork.step(torch.tensor([action]))
        assert step.terminated.item()
        assert (step.reward.item() > 0) == follow


def test_minigrid_planes_say_what_the_image_says() -> None:
    minigrid = pytest.importorskip("minigrid.core.constants")
    world = minigrid_memory()
    environment = world.env_fn()
    seen, _ = environment.reset(seed=4)
    chance = np.random.default_rng(0)
    for _ in range(60):
        planes = world.encode(seen)
        assert (planes.sum(0) == 1).all()
        kinds = np.array([minigrid.OBJECT_TO_IDX[kind] for kind in ("unseen", "empty", "wall", "key", "ball")])
        np.testing.assert_array_equal(kinds[planes.argmax(0)], seen["image"][:, :, 0])
        seen, _, terminated, _, _ = environment.step(int(chance.integers(3)))
        if terminated:
            seen, _ = environment.reset()


def test_popgym_target_is_the_suit_of_the_fourth_last_card_and_naming_it_earns_one() -> None:
    world = popgym_repeat()
    driver, total = world.driver(5, generator()), torch.zeros(5)
    shown = [driver.observation.argmax(1)]
    for t in range(51):
        factors = driver.factor_values()
        expected = shown[-4] + 1 if t >= 3 else torch.zeros(5).long()
        assert torch.equal(factors["target"], expected)
        left = torch.stack([1 - (torch.stack(shown) == suit).sum(0) / 13 for suit in range(4)], 1)
        torch.testing.assert_close(factors["left"], left)
        step = driver.step((factors["target"] - 1).clamp_min(0))
        shown.append(step.observation.argmax(1))
        total += step.reward
    assert step.terminated.all()
    assert not step.truncated.any()
    torch.testing.assert_close(total, torch.ones(5))


@pytest.mark.parametrize(("package", "build"), [("minigrid", minigrid_memory), ("popgym.envs.repeat_previous", popgym_repeat)])
def test_a_missing_package_is_named_with_the_cure(package: str, build: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'worldprobe\[worlds\]'"):
        build()
