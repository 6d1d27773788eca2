"""The grid, its geometry and what can be seen in it."""

from __future__ import annotations

import pytest
import torch

from worldprobe.worlds import FourRooms, solve_mdp

PLAN = """\
#########
#...#...#
#.......#
#...#...#
#.####.##
#.......#
#...#...#
#...#...#
#########"""


def test_walls_are_the_plan() -> None:
    assert "\n".join("".join("#" if wall else "." for wall in row) for row in FourRooms(9).walls.tolist()) == PLAN


@pytest.mark.parametrize("size", [7, 9, 11, 13])
def test_every_cell_can_be_reached_and_every_goal_is_in_its_room(size: int) -> None:
    world = FourRooms(size, slip=0.0)
    n_cells = len(world.cell_positions)
    assert (solve_mdp(world.tables, 0.99).values.view(4, n_cells) > 0).sum() == 4 * (n_cells - 1)
    room = [(row > size // 2, column > size // 2) for row, column in world.cell_positions[world.goal_cells].tolist()]
    assert room == [(False, False), (False, True), (True, False), (True, True)]


def test_moves_follow_the_plan() -> None:
    world = FourRooms(9, slip=0.0)
    number = {tuple(position): cell for cell, position in enumerate(world.cell_positions.tolist())}
    for action, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
        for (row, column), cell in number.items():
            if cell != int(world.goal_cells[0]):
                target = number.get((row + down, column + right), cell)
                assert world.tables.transition[action, cell, target] == 1


def test_reaching_the_goal_pays_once_and_ends() -> None:
    world = FourRooms(9)
    tables = world.tables
    assert tables.terminal.nonzero().flatten().tolist() == [goal * 40 + int(cell) for goal, cell in enumerate(world.goal_cells)]
    paid = (tables.reward * (tables.transition > 0)).amax((0, 1))
    assert torch.equal(paid, tables.terminal.double())


def test_a_cell_shows_its_walls_and_whether_its_room_holds_the_goal() -> None:
    """Two states look alike exactly if their four walls and the goal-in-this-room bit agree."""
    world = FourRooms(9)
    padded, middle = world.walls, 4
    looks: dict[tuple[object, ...], set[int]] = {}
    seen = world.tables.observation.argmax(1).view(4, 40)
    rooms = {(False, False): 0, (False, True): 1, (True, False): 2, (True, True): 3}
    for cell, (row, column) in enumerate(world.cell_positions.tolist()):
        walls = tuple(bool(padded[row + i, column + j]) for i, j in ((-1, 0), (0, 1), (1, 0), (0, -1)))
        room = None if middle in (row, column) else rooms[(row > middle, column > middle)]
        for goal in range(4):
            looks.setdefault((walls, room == goal), set()).add(int(seen[goal, cell]))
    assert all(len(numbers) == 1 for numbers in looks.values())
    assert len(set().union(*looks.values())) == len(looks) == world.observation_size


def test_start_is_uniform_and_independent_of_the_goal() -> None:
    world = FourRooms(9)
    initial = world.tables.initial.view(4, 40)
    assert not initial[:, world.goal_cells].any()
    torch.testing.assert_close(initial.sum(1), torch.full((4,), 0.25, dtype=torch.float64))
    assert (initial > 0).sum() == 4 * 36
    assert (initial[initial > 0] == initial.max()).all()


def test_positions_lie_as_the_grid_does() -> None:
    world = FourRooms(9)
    assert world.positions is not None
    assert world.positions[0].tolist() == [1, -1]
    assert torch.equal(world.positions[:40], world.positions[120:])


@pytest.mark.parametrize(("size", "slip"), [(8, 0.1), (5, 0.1), (9, 1.0)])
def test_senseless_grids_are_refused(size: int, slip: float) -> None:
    with pytest.raises(ValueError, match="odd size"):
        FourRooms(size, slip)
