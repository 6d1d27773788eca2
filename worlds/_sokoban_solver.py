"""The exact optimum of Sokoban boards: every state of a layout, its distance to a solution, and Q*."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.worlds._sokoban import Sokoban, solved
from worldprobe.worlds._world import State

NEVER = -1
"""Distance of a board that cannot be solved any more."""
SETTLED = 1e-12
"""Values that change by less have converged."""


@dataclass(frozen=True, eq=False)
class SokobanSolution:
    """What is optimal on a batch of boards."""

    q_values: Tensor
    """float64 (n, 4): Q* of the discounted problem without a time limit."""
    distance: Tensor
    """int64 (n,): least number of steps to a solution, 0 if solved, -1 if there is none."""


def solve_sokoban(world: Sokoban, state: State) -> SokobanSolution:
    """Solve the layouts that occur in `state`, each over all places of agent and boxes, and look the boards up.

    Distances come from a breadth-first search backwards from all solved states, Q* from value iteration. This starts from the value of
    idling for ever, which can always be had (walking into a wall, or to and fro, moves no box); so after n sweeps it is the best of
    n steps and idling after, and it stops when no further step gains.

    Parameters
    ----------
    world : Sokoban
        Rules and rewards.
    state : dict of Tensor
        Boards of its size, (n, ...).

    Returns
    -------
    SokobanSolution
        Q* and distance of every board.

    Notes
    -----
    A layout of size 6 with one box has up to 240 states, one of size 8 with two 21,420.

    Examples
    --------
    >>> from worldprobe.worlds import Sokoban, SokobanConfig, solve_sokoban
    >>> world = Sokoban(SokobanConfig(size=5, n_levels=50))
    >>> state = world.parse("#####\\n#@$.#\\n#   #\\n#   #\\n#####")
    >>> solution = solve_sokoban(world, state)
    >>> solution.distance.item(), [round(value, 2) for value in solution.q_values[0].tolist()]
    (1, [10.47, 10.9, 10.06, 10.47])
    """
    layouts, which = torch.unique(torch.cat([state["walls"], state["targets"]], 1), dim=0, return_inverse=True)
    n_cells = state["walls"].shape[1]
    distance = torch.empty(len(which), dtype=torch.int64)
    q_values = torch.empty(len(which), world.n_actions, dtype=torch.float64)
    for layout, rows in zip(layouts, _groups(which), strict=True):
        graph = _graph(world, layout[:n_cells], layout[n_cells:])
        here = graph.index[_numbered(state["agent"][rows], state["boxes"][rows])]
        distance[rows] = _distances(graph)[here]
        q_values[rows] = _values(graph, world)[here]
    return SokobanSolution(q_values, distance)


def _groups(which: Tensor) -> list[Tensor]:
    """Return the rows that hold 0, 1, ..., in order."""
    return list(torch.split(which.argsort(stable=True), which.bincount().tolist()))


@dataclass(frozen=True, eq=False)
class _Graph:
    """The m states of a layout."""

    index: Tensor
    """int64: which state a number of `_numbered` stands for."""
    following: Tensor
    """int64 (m, A)."""
    reward: Tensor
    """float64 (m, A)."""
    ended: Tensor
    """bool (m,): solved."""


def _numbered(agent: Tensor, boxes: Tensor) -> Tensor:
    """Number boards of one layout by the cells of the agent and, in reading order, of the boxes, int64 (n,)."""
    n_cells, number = boxes.shape[1], agent
    for cell in boxes.nonzero()[:, 1].view(len(agent), -1).unbind(1):
        number = number * n_cells + cell
    return number


def _graph(world: Sokoban, walls: Tensor, targets: Tensor) -> _Graph:
    """Put agent and boxes everywhere they can be, and step by every action."""
    n_cells, n_boxes = len(walls), world.config.n_boxes
    places = torch.cartesian_prod(*[(~walls).nonzero().squeeze(1)] * (n_boxes + 1))
    ascending, apart = (places[:, 2:] > places[:, 1:-1]).all(1), (places[:, 1:] != places[:, :1]).all(1)
    places = places[ascending & apart]
    m, agent = len(places), places[:, 0]
    boxes = torch.zeros(m, n_cells, dtype=torch.bool).scatter_(1, places[:, 1:], True)
    state = {"walls": walls.expand(m, -1), "targets": targets.expand(m, -1), "boxes": boxes, "agent": agent}
    index = torch.zeros(n_cells ** (n_boxes + 1), dtype=torch.int64).scatter_(0, _numbered(agent, boxes), torch.arange(m))
    steps = [world.step(state, torch.full((m,), action), torch.Generator()) for action in range(world.n_actions)]
    following = torch.stack([index[_numbered(moved["agent"], moved["boxes"])] for moved, _, _ in steps], 1)
    return _Graph(index, following, torch.stack([paid for _, paid, _ in steps], 1).double(), solved(state))


def _distances(graph: _Graph) -> Tensor:
    """Return the least number of steps from every state to a solved one, int64 (m,), NEVER where there is no way."""
    distance, reached, steps = torch.where(graph.ended, 0, NEVER), graph.ended, 0
    while True:
        found = reached[graph.following].any(1) & ~reached
        if not found.any():
            return distance
        steps += 1
        distance[found] = steps
        reached = reached | found


def _values(graph: _Graph, world: Sokoban) -> Tensor:
    """Return Q*, float64 (m, A)."""
    values = torch.full((len(graph.ended),), world.config.step_reward / (1 - world.discount), dtype=torch.float64)
    values[graph.ended] = 0.0
    while True:
        q_values: Tensor = graph.reward + world.discount * values[graph.following]
        improved = q_values.amax(1).masked_fill(graph.ended, 0.0)
        if (improved - values).abs().max() < SETTLED:
            return q_values
        values = improved
