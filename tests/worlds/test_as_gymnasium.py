"""Worlds as Gymnasium environments: the contract that Gymnasium and stable-baselines3 check, and the driver's own episodes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_for_baselines

from worldprobe.worlds import CartPole, TMaze, World, WorldEnv

WORLDS = [TMaze(length=3), CartPole()]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_gymnasium_and_stable_baselines_accept_it(world: World) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(infinity|normalize).*", UserWarning)  # observations are not bounded
        warnings.filterwarnings("ignore", ".*not having a spec.*")
        check_env(WorldEnv(world), skip_render_check=True)
        check_for_baselines(WorldEnv(world))


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_it_plays_the_episodes_of_the_driver(world: World) -> None:
    env = WorldEnv(world)
    observation, infos = env.reset(seed=3)
    driver = world.driver(1, torch.Generator().manual_seed(int(np.random.default_rng(3).integers(2**31))))
    actions = np.random.default_rng(0).integers(world.n_actions, size=200)
    n_ended = 0
    for action in actions:
        np.testing.assert_array_equal(observation, driver.observation[0])
        for name, values in driver.factor_values().items():
            np.testing.assert_array_equal(infos["factors"][name], values[0])
        observation, reward, terminated, truncated, infos = env.step(action)
        step = driver.step(torch.tensor([action]))
        assert (reward, terminated, truncated) == (step.reward.item(), step.terminated.item(), step.truncated.item())
        if step.done.numel():
            n_ended += 1
            np.testing.assert_array_equal(observation, step.final_observation[0])
            for name, values in step.final_factors.items():
                np.testing.assert_array_equal(infos["factors"][name], values[0])
            observation, infos = env.reset()
    assert n_ended > 2


def test_reset_amid_an_episode_begins_another_and_seeds_repeat() -> None:
    env = WorldEnv(TMaze(length=3, stochasticity=0))
    first = env.reset(seed=5)[0]
    env.step(0)
    assert env.reset()[1]["factors"]["position"] == 0
    np.testing.assert_array_equal(env.reset(seed=5)[0], first)
    seen = {tuple(env.reset(seed=seed)[0]) for seed in range(20)}
    assert len(seen) == 2


def test_what_is_wrong_is_said() -> None:
    env = WorldEnv(TMaze())
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions lie in 0 \.\. 3; got values from 4 to 4"):
        env.step(4)
