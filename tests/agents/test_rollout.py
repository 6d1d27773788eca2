from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from worldprobe.agents import Actor, NetworkConfig, RecurrentQNetwork, agent_inputs, count_inputs, make_network, seeded_generator
from worldprobe.worlds import World

ALL = ("observation", "action", "reward")
BuildWorld = Callable[..., World]


def actor_in(world: World, n_envs: int = 8, seed: int = 0, is_yoked: bool = False) -> tuple[RecurrentQNetwork, Actor]:
    network = make_network(world, NetworkConfig(hidden_size=6, encoder_sizes=(5,), channels=ALL), seed)
    driver = world.driver(n_envs, seeded_generator(seed, "driver"))
    return network, Actor(network, driver, seeded_generator(seed, "exploration"), is_yoked)


def parts(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, a_{t-1} as one-hot and r_{t-1} as the corridor's agent received them."""
    return inputs[..., 0], inputs[..., 2:4], inputs[..., 4]


@pytest.mark.parametrize("channels", [("action",), ("observation", "action"), ("action", "reward"), ALL])
def test_inputs_have_the_promised_width(channels: tuple[str, ...], corridor: BuildWorld) -> None:
    world = corridor()
    observation, action, reward = torch.ones(3, 2), torch.tensor([-1, 0, 1]), torch.ones(3)
    inputs = agent_inputs(observation, action, reward, frozenset(channels), world.n_actions)
    assert inputs.shape == (3, count_inputs(world, frozenset(channels)))
    start = 2 * ("observation" in channels)
    assert inputs[:, start : start + 2].tolist() == [[0, 0], [1, 0], [0, 1]]


def test_what_is_received_follows_from_what_was_done(corridor: BuildWorld) -> None:
    """The corridor lets every input be worked out from the actions: position, previous action, previous reward."""
    _, actor = actor_in(corridor())
    rollout = actor.collect(40, epsilon=1.0)
    x, previous_action, previous_reward = parts(rollout.inputs)
    next_x, last_action, last_reward = parts(rollout.successors)
    assert torch.equal(rollout.reward, x)
    assert torch.equal(next_x, x + rollout.action)
    assert torch.equal(last_action.argmax(-1), rollout.action)
    assert torch.equal(last_reward, rollout.reward)
    begins = torch.cat([torch.ones(8, 1, dtype=torch.bool), rollout.ended[:, :-1]], 1)
    assert begins.any(0).sum() > 3
    assert previous_action[begins].abs().sum() == 0
    assert previous_reward[begins].abs().sum() == 0
    goes_on = ~begins[:, 1:]
    assert torch.equal(rollout.inputs[:, 1:][goes_on], rollout.successors[:, :-1][goes_on])


def test_terminated_and_truncated_are_told_apart(corridor: BuildWorld) -> None:
    _, actor = actor_in(corridor(end=4, time_limit=6))
    rollout = actor.collect(60, epsilon=1.0)
    next_x, _, _ = parts(rollout.successors)
    assert torch.equal(rollout.terminated, next_x > 4)
    truncated = rollout.ended & ~rollout.terminated
    assert truncated.any()
    assert rollout.terminated.any()


def test_the_core_is_stepped_with_resets_and_goes_on_over_rollouts(corridor: BuildWorld) -> None:
    network, actor = actor_in(corridor())
    first, second = actor.collect(6, epsilon=1.0), actor.collect(6, epsilon=1.0)
    state = torch.zeros(8, network.state_size)
    for t in range(6):
        reset = torch.ones(8, dtype=torch.bool) if t == 0 else first.ended[:, t - 1]
        _, state = network.step(first.inputs[:, t], state, reset)
    expected = state.masked_fill(first.ended[:, -1:], 0.0)
    torch.testing.assert_close(second.core_state, expected)
    assert first.ended[:, -1].any()
    assert (expected != 0).any()


def test_without_exploration_the_best_action_is_taken(corridor: BuildWorld) -> None:
    network, actor = actor_in(corridor())
    rollout = actor.collect(1, epsilon=0.0)
    q, _ = network.step(rollout.inputs[:, 0], network.initial_state(8), torch.ones(8, dtype=torch.bool))
    assert torch.equal(rollout.action[:, 0], q.argmax(1))


def test_exploration_follows_the_world(corridor: BuildWorld) -> None:
    world = corridor()
    world.exploration = (0.9, 0.1)
    _, actor = actor_in(world, n_envs=200)
    share = actor.collect(50, epsilon=1.0).action.float().mean().item()
    assert share == pytest.approx(0.1, abs=0.015)  # 5 standard errors


def test_yoked_rewards_are_the_neighbours_and_never_ones_own(corridor: BuildWorld) -> None:
    _, actor = actor_in(corridor(), is_yoked=True)
    rollout = actor.collect(30, epsilon=1.0)
    own, _, received = parts(rollout.inputs)  # in the corridor the own reward is x
    assert torch.equal(rollout.reward, own.roll(1, 0))
    assert not torch.equal(rollout.reward, own)
    goes_on = ~rollout.ended[:, :-1]
    assert torch.equal(received[:, 1:][goes_on], rollout.reward[:, :-1][goes_on])
    assert torch.equal(parts(rollout.successors)[2], rollout.reward)


def test_yoking_needs_a_neighbour(corridor: BuildWorld) -> None:
    with pytest.raises(ValueError, match="n_envs must be at least 2"):
        actor_in(corridor(), n_envs=1, is_yoked=True)


@pytest.mark.parametrize("is_yoked", [False, True])
def test_returns_are_always_the_worlds_own(is_yoked: bool, corridor: BuildWorld) -> None:
    _, actor = actor_in(corridor(end=2, n_starts=1), is_yoked=is_yoked)
    rollout = actor.collect(50, epsilon=1.0)
    n, mean_return, mean_length = actor.pop_episodes()
    returns, lengths = [], []
    for x, ended in zip(rollout.inputs[..., 0], rollout.ended, strict=True):
        ends = ended.nonzero().flatten().tolist()
        for begin, end in zip([-1, *ends[:-1]], ends, strict=True):
            returns.append(x[begin + 1 : end + 1].sum().item())
            lengths.append(end - begin)
    assert n == len(returns)
    assert mean_return == pytest.approx(sum(returns) / n)
    assert mean_length == pytest.approx(sum(lengths) / n)
    assert actor.pop_episodes()[0] == 0


def test_an_actor_goes_on_bit_for_bit(corridor: BuildWorld) -> None:
    _, actor = actor_in(corridor())
    actor.collect(9, epsilon=0.5)
    saved = {name: value.clone() for name, value in actor.state_dict().items()}
    expected = actor.collect(9, epsilon=0.5)
    _, other = actor_in(corridor(), seed=0)
    other.load_state_dict(saved)
    found = other.collect(9, epsilon=0.5)
    for name in ("inputs", "successors", "action", "reward", "terminated", "ended", "core_state"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert other.pop_episodes() == actor.pop_episodes()
