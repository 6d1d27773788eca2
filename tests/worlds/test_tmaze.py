"""The T-Maze is the published one."""

from __future__ import annotations

import math

import pytest
import torch

from worldprobe.worlds import TMaze

RIGHT, UP, LEFT, DOWN = range(4)


@pytest.mark.parametrize(("length", "stochasticity", "expected"), [(10, 0.0, 30), (10, 0.2, 38), (50, 0.0, 150), (1, 0.5, 6)])
def test_time_limit_is_the_published_rule(length: int, stochasticity: float, expected: int) -> None:
    world = TMaze(length, stochasticity)
    assert world.time_limit == expected
    assert expected == math.ceil(round(length / ((1 - stochasticity) * (1 / 2 - 1 / 6)), 9))


def test_exploration_and_discount_are_the_published_ones() -> None:
    world = TMaze()
    assert dict(zip(world.action_names, world.exploration, strict=True)) == {"right": 1 / 2, "up": 1 / 6, "left": 1 / 6, "down": 1 / 6}
    assert world.discount == 0.98


def place(goal: int, position: int, length: int = 3) -> int:
    return goal * (length + 3) + position


@pytest.mark.parametrize(
    ("position", "action", "target", "reward"),
    [
        (0, RIGHT, 1, 0.0),
        (0, LEFT, 0, -0.1),
        (0, UP, 0, -0.1),
        (2, DOWN, 2, -0.1),
        (2, LEFT, 1, 0.0),
        (2, RIGHT, 3, 0.0),
        (3, RIGHT, 3, -0.1),
        (3, LEFT, 2, 0.0),
    ],
)
def test_sure_moves_and_their_rewards(position: int, action: int, target: int, reward: float) -> None:
    tables = TMaze(length=3, stochasticity=0.0).tables
    for goal in range(2):
        source, to = place(goal, position), place(goal, target)
        assert tables.transition[action, source, to] == 1
        assert tables.reward[action, source, to] == reward


@pytest.mark.parametrize("goal", [0, 1])
def test_only_the_arm_of_the_goal_pays(goal: int) -> None:
    tables = TMaze(length=3, stochasticity=0.0).tables
    crossroad = place(goal, 3)
    for arm, action in enumerate((UP, DOWN)):
        target = place(goal, 4 + arm)
        assert tables.transition[action, crossroad, target] == 1
        assert tables.terminal[target]
        assert tables.reward[action, crossroad, target] == (4.0 if arm == goal else -0.1)


def test_a_fifth_of_the_actions_is_replaced_by_any_of_the_four() -> None:
    tables = TMaze(length=3, stochasticity=0.2).tables
    crossroad = place(0, 3)
    expected = {crossroad: 0.05, place(0, 2): 0.05, place(0, 4): 0.85, place(0, 5): 0.05}
    assert {s: round(p, 12) for s, p in enumerate(tables.transition[UP, crossroad].tolist()) if p > 0} == expected


def test_the_goal_is_seen_at_the_first_cell_only() -> None:
    seen = TMaze(length=3).tables.observation.argmax(1).tolist()
    up, down, corridor, crossroad = range(4)
    assert seen == [up, corridor, corridor, crossroad, crossroad, crossroad, down, corridor, corridor, crossroad, crossroad, crossroad]


def test_factors_name_every_state_once() -> None:
    world = TMaze(length=3)
    values = world.factor_values({"state": torch.arange(12)})
    assert torch.equal(values["state"], torch.arange(12))
    assert torch.equal(values["goal"] * 6 + values["position"], torch.arange(12))
    assert world.factor("position").labels[-2:] == ("upper arm", "lower arm")


def test_positions_draw_a_t() -> None:
    world = TMaze(length=3)
    assert world.positions is not None
    assert world.positions[:6].tolist() == [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [3, -1]]
    assert torch.equal(world.positions[:6], world.positions[6:])


@pytest.mark.parametrize(("length", "stochasticity"), [(0, 0.2), (5, 1.0), (5, -0.1)])
def test_senseless_mazes_are_refused(length: int, stochasticity: float) -> None:
    with pytest.raises(ValueError, match="length >= 1"):
        TMaze(length, stochasticity)
