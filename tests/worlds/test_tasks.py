"""Reward functions side by side: goals in four rooms, and a task drawn for every episode."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from worldprobe.worlds import (
    FiniteFilter,
    FiniteWorld,
    RandomConfig,
    RandomWorld,
    RoomGoals,
    RoomGoalsConfig,
    TMaze,
    Unavailable,
    solve_rewards,
    successor_representation,
    with_tasks,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distances(world: RoomGoals) -> torch.Tensor:
    """Return the number of steps between any two cells (n_cells, n_cells), from powers of the adjacency matrix."""
    linked = (world.tables.transition.sum(0) > 0).double()
    near, steps = torch.eye(len(linked), dtype=torch.float64), torch.full(linked.shape, -1)
    for k in range(len(linked)):
        steps[(near > 0) & (steps < 0)] = k
        near = ((near @ linked) > 0).double()
    return steps


def test_values_of_a_goal_fall_with_the_distance_to_it() -> None:
    """Without slips V_k = gamma^(d - 1) (1 + gamma g), d > 0 steps away from goal k, where g is the value of being there.

    It is 1 / (1 - gamma) if a wall lets one stay at the goal; if none does, one steps out and back, gamma / (1 - gamma^2).
    """
    world = RoomGoals(RoomGoalsConfig(slip=0.0, sight="cell"))
    assert world.reward_functions is not None
    values = solve_rewards(world.tables, world.reward_functions, world.discount).amax(2)
    steps, gamma = distances(world)[:, world.goal_cells].T.double(), world.discount
    can_stay = torch.diagonal(world.tables.transition, dim1=1, dim2=2).amax(0)[world.goal_cells] > 0
    there = torch.tensor([gamma / (1 - gamma**2), 1 / (1 - gamma)], dtype=torch.float64)[can_stay.long()].unsqueeze(1)
    assert can_stay.any()
    assert not can_stay.all()
    torch.testing.assert_close(values, torch.where(steps == 0, there, gamma ** (steps - 1) * (1 + gamma * there)))


def test_values_are_occupancies_of_the_goal() -> None:
    """V_k = successor representation of its policy times the chance of arriving at the goal."""
    world = RoomGoals(RoomGoalsConfig(n_goals=5, seed=3))
    assert world.reward_functions is not None
    q_values = solve_rewards(world.tables, world.reward_functions, world.discount)
    for goal, q in zip(world.goal_cells.tolist(), q_values, strict=True):
        policy = q.argmax(1)
        arriving = world.tables.transition[policy, torch.arange(40), goal]
        visits = successor_representation(world.tables, policy, world.discount)
        torch.testing.assert_close(visits @ arriving, q.amax(1))


def test_a_step_is_paid_by_all_goals_and_the_own_is_one_of_them() -> None:
    world = with_tasks(RoomGoals())
    generator = seeded(0)
    state = world.reset(500, generator)
    moved, reward, terminated = world.step(state, torch.randint(4, (500,), generator=generator), generator)
    paid = world.rewards(state, torch.zeros(500, dtype=torch.int64), moved)
    assert not terminated.any()
    assert torch.equal(paid, torch.nn.functional.one_hot(moved["state"], 40).float())  # every cell is a goal
    assert torch.equal(reward, (moved["state"] == state["task"]).float())


def test_sight_of_walls_tells_cells_apart_that_differ_in_them() -> None:
    world = RoomGoals()
    looks = world.tables.observation.argmax(1)
    walls = [
        tuple(bool(world.walls[r + i, c + j]) for i, j in ((-1, 0), (0, 1), (1, 0), (0, -1))) for r, c in world.cell_positions.tolist()
    ]
    assert len(set(walls)) == len(set(looks.tolist())) == world.observation_size
    assert len(set(zip(walls, looks.tolist(), strict=True))) == world.observation_size


def test_the_filter_reads_rewards_by_the_task() -> None:
    """In every task the belief is that of a filter of this task's own reward."""
    inner = RandomWorld(RandomConfig(n_states=6, n_actions=2, n_successors=3, n_observations=2, n_rewards=3))
    world, generator, channels = with_tasks(inner), seeded(1), frozenset({"observation", "action", "reward"})
    assert inner.reward_functions is not None
    state = world.reset(64, generator)
    first = world.observe(state, generator)
    action = torch.randint(2, (64,), generator=generator)
    moved, reward, ended = world.step(state, action, generator)
    second = world.observe(moved, generator)
    belief_filter = world.belief_filter(channels)
    belief = belief_filter.update(belief_filter.start(first, generator), action, reward, second, ended, generator)
    assert torch.equal(belief["task"].argmax(1), state["task"])
    for task, paid in enumerate(inner.reward_functions):
        rows = state["task"] == task
        alone = FiniteFilter(replace(inner.tables, reward=paid), channels)
        before = alone.start(first[rows, :2], generator)
        after = alone.update(before, action[rows], reward[rows], second[rows, :2], ended[rows], generator)
        torch.testing.assert_close(belief["state"][rows], after["state"])


def test_what_cannot_be_is_refused_in_words() -> None:
    with pytest.raises(Unavailable, match="reward functions to make tasks of"):
        with_tasks(TMaze())
    with pytest.raises(Unavailable, match="do not see their task"):
        with_tasks(RandomWorld(RandomConfig(n_rewards=2))).belief_filter(frozenset({"action"}))
    with pytest.raises(ValueError, match=r"n_goals must lie in 1 \.\. 40"):
        RoomGoals(RoomGoalsConfig(n_goals=41))
    with pytest.raises(ValueError, match="odd size"):
        RoomGoalsConfig(size=8)


@pytest.mark.parametrize("wrong", ["shape", "other", "terminal"])
def test_reward_functions_that_do_not_fit_are_refused(wrong: str) -> None:
    maze = TMaze(length=2)
    tables = maze.tables
    functions = {
        "shape": tables.reward,
        "other": 2 * tables.reward.unsqueeze(0),
        "terminal": torch.stack([tables.reward, torch.ones_like(tables.reward)]),
    }[wrong]
    message = {
        "shape": r"shape \(K, 4, 10, 10\)",
        "other": "must be one of reward_functions",
        "terminal": "terminal states must pay nothing",
    }
    with pytest.raises(ValueError, match=message[wrong]):
        FiniteWorld(
            tables,
            name="maze",
            factors=dict(zip(maze.factors, maze.class_maps.values(), strict=True)),
            action_names=maze.action_names,
            discount=0.9,
            time_limit=5,
            exploration=maze.exploration,
            headline=maze.headline,
            reward_functions=functions,
        )
