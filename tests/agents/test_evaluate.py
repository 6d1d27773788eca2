from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from worldprobe.agents import Agent, MemorylessAgent, NetworkConfig, evaluate_return, make_network
from worldprobe.worlds import World, make_world

BuildWorld = Callable[..., World]
CHANNELS = frozenset({"observation", "action"})


class Always(MemorylessAgent):
    """Takes one and the same action."""

    def __init__(self, world: World, action: int) -> None:
        super().__init__(world, CHANNELS, seed=0, width=1)
        self._action = action

    def q_values(self, inputs: Tensor, state: Tensor) -> Tensor:
        return torch.eye(self.n_actions)[self._action].expand(len(inputs), -1)


def always(world: World, action: int) -> Agent:
    return Always(world, action)


def test_returns_are_the_worlds_arithmetic(corridor: BuildWorld) -> None:
    """From 0 to beyond 4: paid 0 + 1 + 2 + 3 + 4 in five steps, discounted by 0.9."""
    world = corridor(end=4, time_limit=10, n_starts=1)
    result = evaluate_return(always(world, 1), world, 10, torch.Generator().manual_seed(0), n_envs=5)
    assert (result.n_episodes, result.mean_return, result.mean_length) == (10, 10.0, 5.0)
    assert result.mean_discounted_return == pytest.approx(sum(k * 0.9**k for k in range(5)))
    assert result.standard_error == pytest.approx(0, abs=1e-9)


def test_truncated_episodes_count(corridor: BuildWorld) -> None:
    world = corridor(time_limit=6, n_starts=1)
    result = evaluate_return(always(world, 0), world, 4, torch.Generator().manual_seed(0))
    assert (result.mean_return, result.mean_length) == (0.0, 6.0)


def test_short_episodes_are_not_favoured(corridor: BuildWorld) -> None:
    """Lengths are uniform on 1 .. 9. Whoever takes the episodes that finish first finds them shorter."""
    world, n_envs = corridor(end=8, time_limit=20, n_starts=9), 400
    fair = evaluate_return(always(world, 1), world, n_envs, torch.Generator().manual_seed(0), n_envs=n_envs)
    assert fair.mean_length == pytest.approx(5, abs=0.5)  # 4 standard errors
    driver = world.driver(n_envs, torch.Generator().manual_seed(0))
    lengths: list[int] = []
    while len(lengths) < n_envs:
        before = driver.t + 1
        lengths += before[driver.step(torch.ones(n_envs, dtype=torch.int64)).done].tolist()
    assert sum(lengths) / len(lengths) < 4.3


def test_standard_errors_are_those_of_the_mean(corridor: BuildWorld) -> None:
    world = corridor(end=8, time_limit=20, n_starts=9)
    result = evaluate_return(always(world, 1), world, 2000, torch.Generator().manual_seed(0))
    returns = torch.tensor([36.0 - x * (x - 1) / 2 for x in range(9)])  # x + ... + 8 from each start
    assert result.mean_return == pytest.approx(returns.mean().item(), abs=4 * result.standard_error)
    assert result.standard_error == pytest.approx(returns.std(correction=0).item() / result.n_episodes**0.5, rel=0.05)


def test_one_episode_has_no_standard_error(corridor: BuildWorld) -> None:
    result = evaluate_return(always(corridor(), 1), corridor(), 1, torch.Generator().manual_seed(0))
    assert math.isnan(result.standard_error)


def test_exploration_is_the_worlds_own(corridor: BuildWorld) -> None:
    """With epsilon 1 the walker goes every other step: 5 steps of progress from 0 take 10."""
    world = corridor(end=4, time_limit=1000, n_starts=1)
    result = evaluate_return(always(world, 0), world, 400, torch.Generator().manual_seed(0), epsilon=1.0)
    assert result.mean_length == pytest.approx(10, abs=0.7)  # 4.4 standard errors


def test_evaluation_is_a_function_of_its_generator() -> None:
    world = make_world("tmaze")
    network = make_network(world, NetworkConfig(hidden_size=8), seed=0)
    before = torch.get_rng_state()
    first, same, other = (evaluate_return(network, world, 20, torch.Generator().manual_seed(seed), epsilon=0.5) for seed in (0, 0, 1))
    assert first == same
    assert first != other
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [{"n_episodes": 0}, {"n_envs": 0}, {"epsilon": 1.1}])
def test_impossible_evaluations_are_refused(wrong: dict[str, float], corridor: BuildWorld) -> None:
    settings = {"n_episodes": 3, "n_envs": 2, "epsilon": 0.0} | wrong
    with pytest.raises(ValueError, match="expected n_episodes >= 1"):
        evaluate_return(
            always(corridor(), 0),
            corridor(),
            int(settings["n_episodes"]),
            torch.Generator(),
            n_envs=int(settings["n_envs"]),
            epsilon=settings["epsilon"],
        )


@pytest.mark.parametrize(("n_episodes", "n_envs", "expected"), [(1, 256, 1), (7, 3, 9), (8, 4, 8), (5, 256, 5)])
def test_number_of_episodes_is_rounded_up_to_a_quota(n_episodes: int, n_envs: int, expected: int, corridor: BuildWorld) -> None:
    world = corridor()
    assert evaluate_return(always(world, 1), world, n_episodes, torch.Generator().manual_seed(0), n_envs=n_envs).n_episodes == expected
