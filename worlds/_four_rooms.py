"""Four rooms, a goal hidden in one of them, and senses that reach only to the nearest walls."""

from __future__ import annotations

import torch
from torch import Tensor

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._world import Factor, Headline

MOVES = {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1)}
ROOMS = ("north-west", "north-east", "south-west", "south-east")
DOORWAY = -1


class FourRooms(FiniteWorld):
    """A grid of four rooms joined by four doors; reaching the hidden goal pays 1 and ends the episode.

    State = cell x goal. The goal lies in the outer corner of one of the rooms, the agent starts in any other cell. It
    observes which of the four cells around it are walls, and whether the room it is in holds the goal (never in a
    doorway): where it is, and where the goal is, have to be worked out. The doors are placed asymmetrically, so that both can be.

    Parameters
    ----------
    size : int
        Odd number of grid cells along a side, outer walls included; at least 7.
    slip : float
        Probability that the action is replaced by a uniform one of the four.

    Attributes
    ----------
    walls : Tensor
        bool (size, size), row by column.
    cell_positions : Tensor
        int64 (n_cells, 2): row and column of each cell of the factor "cell".
    goal_cells : Tensor
        int64 (4,): the cell of each class of the factor "goal".

    Raises
    ------
    ValueError
        If `size` is even or below 7, or `slip` outside [0, 1).

    Examples
    --------
    >>> from worldprobe.worlds import FourRooms
    >>> world = FourRooms(size=9)
    >>> world.tables.n_states, len(world.cell_positions), int(world.walls.sum())
    (160, 40, 41)

    References
    ----------
    Sutton, Precup & Singh 1999, "Between MDPs and semi-MDPs" (the fully observed grid).
    """

    def __init__(self, size: int = 9, slip: float = 0.1) -> None:
        if size < 7 or size % 2 == 0 or not 0 <= slip < 1:
            raise ValueError(f"expected an odd size >= 7 and 0 <= slip < 1; got {size} and {slip}")
        self.walls = plan_walls(size)
        self.cell_positions = (~self.walls).nonzero()
        corners = torch.tensor([(1, 1), (1, size - 2), (size - 2, 1), (size - 2, size - 2)])
        self.goal_cells = number_cells(self.walls)[tuple(corners.T)]
        n_cells, n_goals = len(self.cell_positions), len(corners)
        cell = torch.arange(n_cells).repeat(n_goals)
        super().__init__(
            _tables(self.walls, self.cell_positions, self.goal_cells, slip),
            name="four-rooms",
            factors={
                Factor("cell", "categorical", n_cells, "policy", labels=cell_labels(self.cell_positions)): cell,
                Factor("goal", "categorical", n_goals, "policy", labels=ROOMS): torch.arange(n_goals).repeat_interleave(n_cells),
                Factor("state", "categorical", n_goals * n_cells, "policy"): torch.arange(n_goals * n_cells),
            },
            action_names=tuple(MOVES),
            discount=0.95,
            time_limit=60,
            exploration=(0.25,) * 4,
            headline=Headline("state", horizon=5),
            positions=(self.cell_positions[cell].flip(1) * torch.tensor([1, -1])).double(),
        )


def plan_walls(size: int) -> Tensor:
    """Return the wall map: an outer ring, a cross through the middle, and one door in each arm of the cross."""
    walls = torch.zeros(size, size, dtype=torch.bool)
    middle = size // 2
    for line in (0, middle, size - 1):
        walls[line, :] = walls[:, line] = True
    centre = (middle + 1) // 2
    for door in ((centre, middle), (middle + 1, middle), (middle, 1), (middle, middle + centre)):
        walls[door] = False
    return walls


def number_cells(walls: Tensor) -> Tensor:
    """Return the number of each free cell in reading order, int64 (size, size); meaningless on walls."""
    return (~walls).flatten().cumsum(0).view_as(walls) - 1


def neighbours(walls: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return, per move and cell, the cell it leads to (int64) and whether a wall stops it (bool), each (4, n_cells)."""
    ahead = positions + torch.tensor(list(MOVES.values())).unsqueeze(1)
    blocked = walls[ahead[..., 0], ahead[..., 1]]
    reached = torch.where(blocked.unsqueeze(-1), positions, ahead)
    return number_cells(walls)[reached[..., 0], reached[..., 1]], blocked


def find_rooms(walls: Tensor, positions: Tensor) -> Tensor:
    """Return the room of each cell, int64 (n_cells,), DOORWAY between rooms."""
    middle = len(walls) // 2
    room = 2 * (positions[:, 0] > middle).long() + (positions[:, 1] > middle).long()
    return torch.where((positions == middle).any(1), DOORWAY, room)


def _tables(walls: Tensor, positions: Tensor, goal_cells: Tensor, slip: float) -> FiniteTables:
    n_cells, n_goals = len(positions), len(goal_cells)
    S = n_cells * n_goals
    reached, blocked = neighbours(walls, positions)
    moves = torch.nn.functional.one_hot(reached, n_cells).double()
    slipped = (1 - slip) * moves + slip * moves.mean(0)
    terminal = torch.zeros(n_goals, n_cells, dtype=torch.bool)
    terminal[torch.arange(n_goals), goal_cells] = True
    transition = torch.zeros(len(MOVES), n_goals, n_cells, n_goals, n_cells, dtype=torch.float64)
    for goal in range(n_goals):
        transition[:, goal, :, goal] = slipped
        transition[:, goal, goal_cells[goal], goal] = torch.nn.functional.one_hot(goal_cells[goal], n_cells).double()
    reward = (~terminal.view(S, 1) & terminal.view(1, S)).double().expand(len(MOVES), S, S).clone()
    initial = torch.ones(n_goals, n_cells, dtype=torch.float64)
    initial[:, goal_cells] = 0.0
    seen = _sight(blocked, find_rooms(walls, positions), n_goals)
    return FiniteTables(initial.flatten() / initial.sum(), transition.view(len(MOVES), S, S), seen, reward, terminal.flatten())


def _sight(blocked: Tensor, room: Tensor, n_goals: int) -> Tensor:
    """Return O over the combinations of wall bits and goal-is-in-this-room that occur, float64 (S, n_observations)."""
    goal_here = torch.arange(n_goals).unsqueeze(1) == room
    return _number_patterns((2 * _wall_bits(blocked) + goal_here.long()).flatten(), 32)


def see_walls(blocked: Tensor) -> Tensor:
    """Return O over the combinations of walls around a cell that occur, float64 (n_cells, n_observations)."""
    return _number_patterns(_wall_bits(blocked), 16)


def _wall_bits(blocked: Tensor) -> Tensor:
    """Return the walls around each cell as a number of four bits, int64 (n_cells,)."""
    return (blocked.long() * torch.tensor([8, 4, 2, 1]).unsqueeze(1)).sum(0)


def _number_patterns(pattern: Tensor, n_patterns: int) -> Tensor:
    """Return the one-hot of each pattern among those that occur."""
    occurring = torch.zeros(n_patterns, dtype=torch.int64).index_fill(0, pattern, 1)
    return torch.nn.functional.one_hot((occurring.cumsum(0) - 1)[pattern]).double()


def cell_labels(positions: Tensor) -> tuple[str, ...]:
    """Return the place of each cell in words."""
    return tuple(f"row {row}, column {column}" for row, column in positions.tolist())
