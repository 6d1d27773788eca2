"""The four rooms with things to pick up: the transfer task of successor features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldprobe.worlds._four_rooms import MOVES, ROOMS, cell_labels, find_rooms, neighbours, number_cells, plan_walls
from worldprobe.worlds._world import Factor, Headline, State, World


@dataclass(frozen=True)
class RoomObjectsConfig:
    """Grid, things and what they are worth."""

    size: int = 13
    """Odd number of grid cells along a side, outer walls included; at least 7."""
    weights: tuple[float, ...] = (1.0, 0.5, -1.0)
    """What picking up a thing of each class pays; reaching the goal pays 1."""
    discount: float = 0.95
    """gamma (Barreto et al. 2017)."""
    time_limit: int = 200
    """Steps after which an episode is cut."""
    seed: int = 0
    """Of the places of the things: one of each class in every room."""

    def __post_init__(self) -> None:
        if self.size < 7 or self.size % 2 == 0 or not self.weights:
            raise ValueError(f"expected an odd size >= 7 and the weight of at least one class; got {self}")
        if len(self.weights) > (self.size // 2 - 1) ** 2 - 1:
            raise ValueError(
                f"{len(self.weights)} things do not fit into a room of {(self.size // 2 - 1) ** 2} cells and leave one to start in"
            )


class RoomObjects(World):
    """Walk from one room to the far corner of the opposite one and pick up what pays on the way; everything is seen.

    Things of several classes lie in fixed places, one of each class in every room, and are gone when stepped on. Reward
    function k pays 1 for picking up a thing of class k, the last one 1 for reaching the goal, which ends the episode; the
    world's own reward is their sum with the configured weights. So features, tasks and transfer between tasks are exact. Moves
    do not slip.

    Parameters
    ----------
    config : RoomObjectsConfig
        Grid, things and what they are worth.

    Attributes
    ----------
    walls : Tensor
        bool (size, size), row by column.
    cell_positions : Tensor
        int64 (n_cells, 2): row and column of every cell.
    object_cells : Tensor
        int64 (n_objects,): where each thing lies at first; bit j of the state "objects" is set while thing j is there.
    object_classes : Tensor
        int64 (n_objects,): what each thing is.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import RoomObjects
    >>> world = RoomObjects()
    >>> world.observation_shape, world.n_rewards, len(world.object_cells)
    ((116,), 4, 12)
    >>> world.reward_weights(world.reset(1, torch.Generator())).tolist()
    [[1.0, 0.5, -1.0, 1.0]]

    References
    ----------
    Barreto, Dabney, Munos et al. 2017, "Successor features for transfer in reinforcement learning", section 4.
    """

    action_names = tuple(MOVES)
    exploration = (0.25,) * 4
    headline = Headline("left", horizon=5)
    gives = frozenset({"simulation", "rewards"})

    def __init__(self, config: RoomObjectsConfig | None = None) -> None:
        self.config = config = config or RoomObjectsConfig()
        self.name = "four-rooms-objects"
        self.discount, self.time_limit = config.discount, config.time_limit
        self.walls = plan_walls(config.size)
        self.cell_positions = (~self.walls).nonzero()
        self._following, _ = neighbours(self.walls, self.cell_positions)
        self._goal = int(number_cells(self.walls)[1, config.size - 2])
        self._following[:, self._goal] = self._goal
        n_cells, self.n_rewards = len(self.cell_positions), len(config.weights) + 1
        self.object_cells, self.object_classes, self._starts = self._place_objects()
        n_objects = len(self.object_cells)
        self._bit = torch.zeros(n_cells, dtype=torch.int64).scatter(0, self.object_cells, 2 ** torch.arange(n_objects))
        self._features = torch.zeros(n_cells, self.n_rewards)
        self._features[self.object_cells, self.object_classes] = 1.0
        self._weights = torch.tensor([*config.weights, 1.0])
        self.observation_shape = (n_cells + n_objects,)
        names = tuple(f"class {kind}, {room}" for room in ROOMS for kind in range(len(config.weights)))
        self.factors = (
            Factor("cell", "categorical", n_cells, "policy", labels=cell_labels(self.cell_positions)),
            Factor("left", "continuous", n_objects, "policy", labels=names),
        )

    def _place_objects(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a place in every room for a thing of every class: cells, classes, and the cells of the south-west room left to start in."""
        room = find_rooms(self.walls, self.cell_positions)
        room[self._goal] = -1
        generator, n_classes = torch.Generator().manual_seed(self.config.seed), len(self.config.weights)
        cells = []
        for number in range(len(ROOMS)):
            inside = (room == number).nonzero().squeeze(1)
            cells.append(inside[torch.randperm(len(inside), generator=generator)[:n_classes]])
        places = torch.cat(cells)
        room[places] = -1
        starts = (room == ROOMS.index("south-west")).nonzero().squeeze(1)
        return places, torch.arange(n_classes).repeat(len(ROOMS)), starts

    # --- simulation -----------------------------------------------------------------------------------------------

    def reset(self, n: int, generator: torch.Generator) -> State:
        """Draw `n` initial states: a cell of the south-west room, nothing picked up."""
        cell = self._starts[torch.randint(len(self._starts), (n,), generator=generator)]
        return {"cell": cell, "objects": torch.full_like(cell, 2 ** len(self.object_cells) - 1)}

    def observe(self, state: State, generator: torch.Generator) -> Tensor:
        """Return the cell's one-hot and which things are left, float32 (n, n_cells + n_objects)."""
        return torch.cat([one_hot(state["cell"], len(self.cell_positions)).float(), self._left(state)], 1)

    def step(self, state: State, action: Tensor, generator: torch.Generator) -> tuple[State, Tensor, Tensor]:
        """Move every state by its action: (next state, reward float32 (n,), terminated bool (n,)). `state` is not changed."""
        cell = self._following[action, state["cell"]]
        moved = {"cell": cell, "objects": state["objects"] & ~self._bit[cell]}
        return moved, self.rewards(state, action, moved) @ self._weights, cell == self._goal

    def rewards(self, state: State, action: Tensor, following: State) -> Tensor:
        """Return whether a thing of each class was picked up, and whether the goal was reached, float32 (n, n_rewards)."""
        picked = (state["objects"] != following["objects"]).unsqueeze(1)
        paid = self._features[following["cell"]] * picked
        paid[:, -1] = ((following["cell"] == self._goal) & (state["cell"] != self._goal)).float()
        return paid

    def reward_weights(self, state: State) -> Tensor:
        """Return the configured weights, float32 (n, n_rewards)."""
        return self._weights.expand(len(state["cell"]), -1)

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Return the cell, int64 (n,), and which things are left, zeros and ones (n, n_objects)."""
        return {"cell": state["cell"], "left": self._left(state)}

    def _left(self, state: State) -> Tensor:
        """Return the bits of the state "objects", float32 (n, n_objects)."""
        return ((state["objects"].unsqueeze(1) >> torch.arange(len(self.object_cells))) & 1).float()

    # --- ground truth ---------------------------------------------------------------------------------------------

    def solve(self, weights: Tensor) -> Tensor:
        """Return Q* of the reward w . `rewards`, float64 (2^n_objects, n_cells, A), to be indexed by a state's "objects" and "cell".

        Parameters
        ----------
        weights : Tensor
            (n_rewards,): any task, the world's own or another one.

        Notes
        -----
        Value iteration from zero: moves are certain, and after n sweeps the value is the best that n steps can earn. So it stops
        exactly when no step more can earn anything. The time limit is left out.
        """
        n_cells, n_left = len(self.cell_positions), 2 ** len(self.object_cells)
        weights = weights.double()
        left = torch.arange(n_left).view(-1, 1)
        into = [(left & ~self._bit[cell], cell) for cell in self._following]  # objects (n_left, n_cells) and cells after each move
        paid = torch.stack([(left & self._bit[cell] > 0) * (self._features.double() @ weights)[cell] for _, cell in into], -1)
        paid += weights[-1] * (self._following == self._goal).T
        paid[:, self._goal] = 0.0
        values = torch.zeros(n_left, n_cells, dtype=torch.float64)
        while True:
            following = torch.stack([values[objects, cell] for objects, cell in into], -1)
            q_values: Tensor = paid + self.discount * following
            if torch.equal(q_values.amax(-1), values):
                return q_values
            values = q_values.amax(-1)
