"""Behaviours act on the history alone, in the shares that they announce."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from worldprobe.activations import BEHAVIOURS, CommonBehaviour, EpsilonGreedy, Moment, Recording, record
from worldprobe.agents import NetworkConfig, agent_inputs, make_network
from worldprobe.worlds import TMaze, World, make_world, solve_pomdp


def draw_moments(world: World, n: int, n_steps: int) -> list[Moment]:
    """Play a few steps of undirected exploration and return what a behaviour would have seen."""
    driver, generator = world.driver(n, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)
    moments = [Moment.first(driver.observation)]
    for _ in range(n_steps):
        action = torch.multinomial(torch.tensor(world.exploration), n, replacement=True, generator=generator)
        moments.append(Moment.after(driver.step(action), action))
    return moments


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_every_behaviour_repeats_itself_given_history_and_seed(maze: World, name: str) -> None:
    agent = make_network(maze, NetworkConfig(core="gru", hidden_size=4), seed=0)
    behaviour = BEHAVIOURS[name](agent, maze)
    moments = draw_moments(maze, 6, 60)
    runs = []
    for seed in (0, 0, 1):
        act = behaviour.begin(maze, 6, torch.Generator().manual_seed(seed))
        runs.append(torch.stack([act(replace(moment)) for moment in moments]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert runs[0].dtype == torch.int64
    assert int(runs[0].min()) >= 0
    assert int(runs[0].max()) < maze.n_actions
    assert json.loads(json.dumps(behaviour.describe())) == behaviour.describe()
    assert behaviour.describe()["name"] == behaviour.name


def test_moments_reset_what_belongs_to_the_episode_before(maze: World) -> None:
    moments = draw_moments(maze, 16, 60)
    begun = torch.stack([moment.reset for moment in moments])
    assert begun[0].all()
    assert begun[1:].any()
    for moment in moments:
        assert (moment.previous_action[moment.reset] == -1).all()
        assert (moment.previous_reward[moment.reset] == 0).all()
        assert (moment.previous_action[~moment.reset] >= 0).all()


def test_epsilon_greedy_follows_q_and_explores_in_its_share(maze: World) -> None:
    agent = make_network(maze, NetworkConfig(core="gru", hidden_size=4), seed=0)
    moments = draw_moments(maze, 400, 40)
    act = EpsilonGreedy(agent, 0.3).begin(maze, 400, torch.Generator().manual_seed(0))
    state, chosen, greedy = agent.initial_state(400), [], []
    for moment in moments:
        chosen.append(act(moment))
        inputs = agent_inputs(moment.observation, moment.previous_action, moment.previous_reward, agent.channels, 4)
        q, state = agent.step(inputs, state, moment.reset)
        greedy.append(q.argmax(1))
    best = torch.stack(greedy)
    agrees = (torch.stack(chosen) == best).double()
    exploration = torch.tensor(maze.exploration, dtype=torch.float64)
    expected = 0.7 + 0.3 * exploration[best].mean()
    assert abs(agrees.mean() - expected) < 4 * 0.5 / agrees.numel() ** 0.5


@pytest.mark.parametrize("epsilon", [-0.1, 1.5, float("nan")])
def test_epsilon_must_be_a_probability(maze: World, epsilon: float) -> None:
    agent = make_network(maze, NetworkConfig(hidden_size=4), seed=0)
    with pytest.raises(ValueError, match="epsilon is a probability"):
        EpsilonGreedy(agent, epsilon)


def test_common_streams_mix_the_best_policy_of_the_recorded_belief_with_exploration(maze: TMaze, tmp_path: Path) -> None:
    """With no exploration every action is the policy's in the recorded belief; episodes fall into the announced shares."""
    policy = solve_pomdp(maze, frozenset({"observation", "action"})).policy
    with record(None, maze, tmp_path / "best.wpr", CommonBehaviour(maze, epsilons=(0.0,)), 60, 0, n_envs=16) as best:
        belief = {"state": torch.from_numpy(best["belief/state"][:])}
        np.testing.assert_array_equal(best["action"][:], policy.action(belief).numpy())
        discounted = best["reward"][:] * maze.discount ** best["t"][:]
        returns = np.bincount(best.groups, discounted)
        assert abs(returns.mean() - solve_pomdp(maze, frozenset({"observation", "action"})).lower) < 4 * returns.std() / 60**0.5


def test_common_episodes_differ_in_their_share_of_exploration(common: Recording, maze: TMaze) -> None:
    policy = solve_pomdp(maze, frozenset({"observation", "action"})).policy
    is_best = common["action"][:] == policy.action({"state": torch.from_numpy(common["belief/state"][:])}).numpy()
    share = np.bincount(common.groups, is_best) / common.episodes["length"].to_numpy()
    epsilon = np.array([0.1, 0.5, 1.0])
    # P(best action) is 1 - epsilon + epsilon x exploration(best); "right" is explored half the time, the others a sixth.
    low, high = 1 - epsilon + epsilon / 6, 1 - epsilon + epsilon / 2
    assert share.mean() > low.mean() - 0.05
    assert share.mean() < high.mean() + 0.05
    assert (share == 1).mean() > 0.2  # mostly the thirds of epsilon 0.1
    assert (share < 0.6).mean() > 0.15  # mostly those of epsilon 1


def test_a_world_without_a_policy_is_explored_undirected(tmp_path: Path) -> None:
    world = make_world("tmaze")
    world.gives = frozenset({"simulation", "belief"})
    behaviour = CommonBehaviour(world)
    assert "undirected" in behaviour.describe()["policy"]
    with record(None, world, tmp_path / "a.wpr", behaviour, 100, 0) as recording:
        counts = np.bincount(recording["action"][:], minlength=4) / recording.n_steps
        np.testing.assert_allclose(counts, world.exploration, atol=4 * 0.5 / recording.n_steps**0.5)


def test_the_common_behaviour_is_tied_to_its_world(maze: World) -> None:
    other = make_world("red-light")
    with pytest.raises(ValueError, match="that of the world 'tmaze'; got 'red-light'"):
        CommonBehaviour(maze).begin(other, 2, torch.Generator())
