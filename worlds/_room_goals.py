"""The four rooms with a reward for every goal: one law, many tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._four_rooms import MOVES, cell_labels, neighbours, plan_walls, see_walls
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._world import Factor, Headline


@dataclass(frozen=True)
class RoomGoalsConfig:
    """Size, noise, senses and goals."""

    size: int = 9
    """Odd number of grid cells along a side, outer walls included; at least 7."""
    slip: float = 0.1
    """Probability that the action is replaced by a uniform one of the four."""
    sight: Literal["cell", "walls"] = "walls"
    """What is seen: the cell itself, or which of the four cells around it are walls."""
    n_goals: int | None = None
    """K: how many cells, drawn without replacement, are goals; None: every cell."""
    time_limit: int = 60
    """Steps after which an episode is cut; it does not end otherwise."""
    seed: int = 0
    """Of the choice of goals."""

    def __post_init__(self) -> None:
        if self.size < 7 or self.size % 2 == 0 or not 0 <= self.slip < 1:
            raise ValueError(f"expected an odd size >= 7 and 0 <= slip < 1; got {self.size} and {self.slip}")


class RoomGoals(FiniteWorld):
    """A walk through four rooms in which reward function k pays 1 for every step that ends in goal cell k.

    Reaching a goal ends nothing, so one stream of experience is good for every goal. The world's own reward is that of the
    first goal; `with_tasks` draws a goal for every episode and shows it.

    Parameters
    ----------
    config : RoomGoalsConfig
        Size, noise, senses and goals.

    Attributes
    ----------
    walls : Tensor
        bool (size, size), row by column.
    cell_positions : Tensor
        int64 (n_cells, 2): row and column of every cell.
    goal_cells : Tensor
        int64 (K,): the cell that each reward function pays for.

    Raises
    ------
    ValueError
        If the grid is senseless, or `n_goals` no number of its cells.

    Examples
    --------
    Q* of every goal, and the successor representation of going to the first one:

    >>> from worldprobe.worlds import RoomGoals, RoomGoalsConfig, solve_rewards, successor_representation
    >>> world = RoomGoals(RoomGoalsConfig(size=9))
    >>> q_values = solve_rewards(world.tables, world.reward_functions, world.discount)
    >>> q_values.shape, successor_representation(world.tables, q_values[0].argmax(1), world.discount).shape
    (torch.Size([40, 40, 4]), torch.Size([40, 40]))

    References
    ----------
    Sutton, Precup & Singh 1999 (the grid); Schaul, Horgan, Gregor & Silver 2015, "Universal value function approximators" (the goals).
    """

    def __init__(self, config: RoomGoalsConfig | None = None) -> None:
        self.config = config = config or RoomGoalsConfig()
        self.walls = plan_walls(config.size)
        self.cell_positions = (~self.walls).nonzero()
        n_cells = len(self.cell_positions)
        self.goal_cells = _choose_goals(config, n_cells)
        reached, blocked = neighbours(self.walls, self.cell_positions)
        moves = one_hot(reached, n_cells).double()
        arrivals = one_hot(self.goal_cells, n_cells).double()
        reward_functions = arrivals.view(-1, 1, 1, n_cells).expand(-1, len(MOVES), n_cells, -1)
        super().__init__(
            FiniteTables(
                initial=torch.full((n_cells,), 1 / n_cells, dtype=torch.float64),
                transition=(1 - config.slip) * moves + config.slip * moves.mean(0),
                observation=torch.eye(n_cells, dtype=torch.float64) if config.sight == "cell" else see_walls(blocked),
                reward=reward_functions[0].clone(),
                terminal=torch.zeros(n_cells, dtype=torch.bool),
            ),
            name="four-rooms-goals",
            factors={Factor("cell", "categorical", n_cells, "policy", labels=cell_labels(self.cell_positions)): torch.arange(n_cells)},
            action_names=tuple(MOVES),
            discount=0.95,
            time_limit=config.time_limit,
            exploration=(0.25,) * 4,
            headline=Headline("cell", horizon=5),
            positions=(self.cell_positions.flip(1) * torch.tensor([1, -1])).double(),
            reward_functions=reward_functions,
        )


def _choose_goals(config: RoomGoalsConfig, n_cells: int) -> Tensor:
    """Return the goal cells, ascending, int64 (K,)."""
    n_goals = n_cells if config.n_goals is None else config.n_goals
    if not 1 <= n_goals <= n_cells:
        raise ValueError(f"n_goals must lie in 1 .. {n_cells}, the number of cells; got {n_goals}")
    drawn = torch.randperm(n_cells, generator=torch.Generator().manual_seed(config.seed))[:n_goals]
    return drawn.sort().values
