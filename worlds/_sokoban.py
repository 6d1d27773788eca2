"""Sokoban: boxes that can be pushed and never pulled, so that some moves cannot be undone."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldprobe.worlds._sokoban_levels import SokobanConfig, generate_levels
from worldprobe.worlds._world import Belief, BeliefFilter, Factor, Headline, State, World, check_channels


class Sokoban(World):
    r"""Push every box onto a target; each episode is one of many generated levels, all of which can be solved.

    Walking into a box pushes it if the cell beyond is free. The board is fully seen, as planes (wall, target, box, agent) of size x
    size. Levels are made by playing backwards from the solution; layouts of the splits are disjoint. Rewards are those
    of Guez et al. 2019. The state is {"walls", "targets", "boxes": bool (n, size^2), "agent": int64 (n,)}, so that any board
    can be stepped, not only those of the levels. `solve_sokoban` gives Q* and the distance to the solution.

    Parameters
    ----------
    config : SokobanConfig
        Levels and rewards.

    Raises
    ------
    ValueError
        If there are not as many levels as are asked for.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import Sokoban, SokobanConfig
    >>> world = Sokoban(SokobanConfig(size=5, n_levels=50))
    >>> world.observation_shape, [factor.name for factor in world.factors]
    ((4, 5, 5), ['agent', 'box_1'])
    >>> state = world.parse("#####\n#@$.#\n#   #\n#   #\n#####")
    >>> moved, reward, terminated = world.step(state, torch.tensor([1]), torch.Generator())
    >>> print(world.render(moved)[0])
    #####
    # @*#
    #   #
    #   #
    #####
    >>> round(reward.item(), 6), terminated.item()
    (10.9, True)

    References
    ----------
    Racaniere, Weber, Reichert et al. 2017, "Imagination-augmented agents" (levels by backward play); Guez, Mirza, Gregor et al. 2019,
    "An investigation of model-free planning" (rewards, and what planning can be read from behaviour here).
    """

    action_names = ("up", "right", "down", "left")
    exploration = (0.25,) * 4
    headline = Headline("box_1", horizon=5)
    gives = frozenset({"simulation", "belief"})

    def __init__(self, config: SokobanConfig | None = None) -> None:
        self.config = config = config or SokobanConfig()
        self.name = "sokoban" if config.n_boxes == 1 else "sokoban-two-boxes"
        self.discount, self.time_limit = config.discount, config.time_limit
        self.observation_shape = (4, config.size, config.size)
        self.levels = generate_levels(config)
        self.offsets = torch.tensor([-config.size, 1, config.size, -1])
        cells = tuple(f"row {row}, column {column}" for row in range(config.size) for column in range(config.size))
        names = ("agent", *(f"box_{number + 1}" for number in range(config.n_boxes)))
        self.factors = tuple(Factor(name, "categorical", len(cells), "policy", labels=cells) for name in names)

    # --- simulation -----------------------------------------------------------------------------------------------

    def reset(self, n: int, generator: torch.Generator) -> State:
        """Draw `n` levels."""
        level = torch.randint(len(self.levels["agent"]), (n,), generator=generator)
        return {name: leaf.index_select(0, level) for name, leaf in self.levels.items()}

    def observe(self, state: State, generator: torch.Generator) -> Tensor:
        """Return the planes (wall, target, box, agent), float32 (n, 4, size, size)."""
        agent = torch.zeros_like(state["walls"]).scatter_(1, state["agent"].unsqueeze(1), True)
        planes = torch.stack([state["walls"], state["targets"], state["boxes"], agent], 1)
        return planes.float().view(-1, *self.observation_shape)

    def step(self, state: State, action: Tensor, generator: torch.Generator) -> tuple[State, Tensor, Tensor]:
        """Move every state by its action: (next state, reward float32 (n,), terminated bool (n,)). `state` is not changed."""
        offset, running = self.offsets[action], ~solved(state)
        walls, targets, boxes = state["walls"], state["targets"], state["boxes"]
        front = state["agent"] + offset
        beyond = (front + offset).clamp(0, walls.shape[1] - 1)  # outside the board only if a wall is in front
        ahead = torch.stack([front, beyond], 1)
        walled, boxed, aimed = (plane.gather(1, ahead) for plane in (walls, boxes, targets))
        pushes = running & boxed[:, 0] & ~(walled | boxed)[:, 1]
        moves = running & ~walled[:, 0] & (pushes | ~boxed[:, 0])
        after = torch.stack([boxed[:, 0] & ~pushes, boxed[:, 1] | pushes], 1)
        moved = {**state, "boxes": boxes.scatter(1, ahead, after), "agent": torch.where(moves, front, state["agent"])}
        terminated = solved(moved)
        gained = (aimed[:, 1].float() - aimed[:, 0].float()) * pushes
        reward = self.config.step_reward + self.config.box_reward * gained + self.config.solved_reward * terminated
        return moved, reward * running, terminated

    def factor_values(self, state: State) -> dict[str, Tensor]:
        """Return the cells of the agent and of the boxes, in reading order, int64 (n,)."""
        cells = state["boxes"].nonzero()[:, 1].view(-1, self.config.n_boxes)
        return {"agent": state["agent"], **{f"box_{number + 1}": cell for number, cell in enumerate(cells.unbind(1))}}

    # --- ground truth ---------------------------------------------------------------------------------------------

    def belief_filter(self, channels: frozenset[str]) -> SightFilter:
        """Return the filter that reads the whole state off the board.

        Raises
        ------
        Unavailable
            If observations are no channel: a belief over all levels and their states would be needed.
        """
        if "observation" not in check_channels(channels):
            raise self.unavailable("filter for agents that do not see the board: let 'observation' be a channel")
        return SightFilter(channels)

    def point_belief(self, state: State) -> Belief:
        """Return the state: it is its own belief."""
        return dict(state)

    def predict_belief(self, belief: Belief, actions: Tensor) -> Belief:
        """Step each board through its action sequence, int64 (n, k); solved boards stay."""
        state, generator = belief, torch.Generator()
        for action in actions.unbind(1):
            state, _, _ = self.step(state, action, generator)
        return state

    def expect_factors(self, belief: Belief) -> dict[str, Tensor]:
        """Return the one-hot of each factor, float64 (n, size^2)."""
        return {name: one_hot(cell, self.config.size**2).double() for name, cell in self.factor_values(belief).items()}

    def counterfeit(self, generator: torch.Generator) -> Sokoban:
        """Return the same levels with the four directions exchanged, none left in place."""
        other, order = copy.copy(self), torch.arange(4)
        while (order == torch.arange(4)).any():
            order = torch.randperm(4, generator=generator)
        other.offsets = self.offsets[order]
        return other

    # --- boards as text -------------------------------------------------------------------------------------------

    def parse(self, board: str) -> State:
        """Read one board, (1, ...): # wall, . target, $ box, * box on target, @ agent, + agent on target.

        Raises
        ------
        ValueError
            If the board is not of this world's size, numbers of boxes and targets, or is not walled in.
        """
        size, cells = self.config.size, torch.tensor([ord(cell) for cell in board.replace("\n", "")])

        def at(symbols: str) -> Tensor:
            return torch.isin(cells, torch.tensor([ord(symbol) for symbol in symbols])).unsqueeze(0)

        counts = tuple(int(at(symbols).sum()) for symbols in ("$*", ".*+", "@+"))
        if len(cells) != size**2 or counts != (self.config.n_boxes, self.config.n_boxes, 1):
            raise ValueError(
                f"expected {size} x {size} cells with {self.config.n_boxes} boxes, as many targets and one agent; "
                f"got {len(cells)} cells with (boxes, targets, agents) = {counts}"
            )
        walls = at("#")
        square = walls.view(size, size)
        if not (square[[0, -1]].all() and square[:, [0, -1]].all()):
            raise ValueError("the outer cells of a board must be walls (#)")
        return {"walls": walls, "targets": at(".*+"), "boxes": at("$*"), "agent": at("@+").int().argmax(1)}

    def render(self, state: State) -> list[str]:
        """Write every board as text; undoes `parse`."""
        symbols = torch.where(state["targets"], ord("."), ord(" "))
        symbols[state["walls"]] = ord("#")
        symbols[state["boxes"]] = ord("$")
        symbols[state["boxes"] & state["targets"]] = ord("*")
        rows = torch.arange(len(symbols))
        on_target = state["targets"][rows, state["agent"]]
        symbols[rows, state["agent"]] = torch.where(on_target, ord("+"), ord("@"))
        size = self.config.size
        return ["\n".join("".join(map(chr, line)) for line in board) for board in symbols.view(-1, size, size).tolist()]


class SightFilter(BeliefFilter):
    """The belief of who sees the board: certainty of it."""

    def __init__(self, channels: frozenset[str]) -> None:
        self.channels = check_channels(channels)

    def start(self, observation: Tensor, generator: torch.Generator) -> Belief:
        """Return the board that the planes (n, 4, size, size) show."""
        walls, targets, boxes, agent = observation.flatten(2).unbind(1)
        return {"walls": walls > 0.5, "targets": targets > 0.5, "boxes": boxes > 0.5, "agent": agent.argmax(1)}

    def update(
        self, belief: Belief, action: Tensor, reward: Tensor, observation: Tensor, terminated: Tensor, generator: torch.Generator
    ) -> Belief:
        """Return the board that is seen now; nothing else is needed."""
        return self.start(observation, generator)


def solved(state: State) -> Tensor:
    """Return whether every box is on a target, bool (n,)."""
    return ~(state["boxes"] & ~state["targets"]).any(1)
