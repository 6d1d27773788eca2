"""Sokoban levels that can be solved, because they were made by playing backwards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from worldprobe.worlds._world import State

Split = Literal["train", "validation", "test"]
TENTHS: dict[int, Split] = {8: "validation", 9: "test"}
"""Which split a layout belongs to, by its hash modulo 10; the other eight tenths are for training."""
N_STEPS = 400
"""Steps of backward play."""
N_WANDERING = 50
"""Steps of the agent at the end, away from what it pulled last."""
PULLING = 0.7
"""Probability of pulling a box that can be pulled."""
PERSISTENCE = 0.5
"""Probability that backward play keeps its direction, so that boxes are carried away."""
FAR = 2
"""Least city-block distance of boxes from targets, per box; half of what is made in small rooms is nearer, and dropped."""
BATCH = 2048
"""Levels that are played backwards at once: part of what a seed means, so a constant."""


@dataclass(frozen=True)
class SokobanConfig:
    """Levels and rewards. The rewards are those of Guez et al. (2019)."""

    size: int = 6
    """Cells along a side, outer walls included: 5 to 8."""
    n_boxes: int = 1
    """One or two, and as many targets."""
    wall_density: float = 0.15
    """Share of the inner cells that are walls."""
    split: Split = "train"
    """Whose levels: a layout (walls and targets) belongs to one split for ever, whatever the seed."""
    n_levels: int = 2000
    """How many distinct levels an episode can begin with."""
    seed: int = 0
    """Of the levels."""
    step_reward: float = -0.1
    """Paid for every step."""
    box_reward: float = 1.0
    """Paid for a box pushed onto a target, and taken for one pushed off."""
    solved_reward: float = 10.0
    """Paid for the last box."""
    discount: float = 0.97
    """gamma."""
    time_limit: int = 60
    """Steps until truncation."""

    def __post_init__(self) -> None:
        if not 5 <= self.size <= 8 or self.n_boxes not in (1, 2) or not 0 <= self.wall_density < 0.5 or self.n_levels < 1:
            raise ValueError(f"expected a size of 5 to 8, one or two boxes, a wall density in [0, .5) and n_levels >= 1; got {self}")
        if self.split not in ("train", "validation", "test") or self.step_reward > 0 or min(self.box_reward, self.solved_reward) < 0:
            raise ValueError(f"expected a split train, validation or test, a step reward <= 0 and other rewards >= 0; got {self}")


@lru_cache(maxsize=16)
def generate_levels(config: SokobanConfig) -> State:
    """Return `n_levels` distinct solvable levels of a split, as first states.

    Walls and targets are drawn, the boxes put onto the targets, and the agent walks at random and pulls: whatever it pulled can
    be pushed back (Racaniere et al. 2017). Levels that begin with a box on a target, or with all of them near, are dropped.

    Raises
    ------
    ValueError
        If three batches in a row bring nothing new: there may not be so many levels of this kind.
    """
    generator = torch.Generator().manual_seed(config.seed)
    kept: dict[bytes, State] = {}
    found_at_last = [0]
    while len(kept) < config.n_levels:
        batch = play_backwards(draw_solved(config, BATCH, generator), config.size, generator)
        away = ~(batch["boxes"] & batch["targets"]).any(1)
        away &= displacement(batch["boxes"], batch["targets"], config.size) >= FAR * config.n_boxes
        layouts, starts = _packed(batch, "walls", "targets"), _packed(batch, "boxes", "agent")
        for row in away.nonzero().squeeze(1).tolist():
            if split_of(layouts[row]) == config.split:
                kept.setdefault(layouts[row] + starts[row], {name: leaf[row] for name, leaf in batch.items()})
        found_at_last = [*found_at_last[-3:], len(kept)]
        if len(found_at_last) == 4 and found_at_last[0] == len(kept):
            raise ValueError(f"found only {len(kept)} of {config.n_levels} levels for {config}: ask for fewer, or for more walls or cells")
    levels = list(kept.values())[: config.n_levels]
    return {name: torch.stack([level[name] for level in levels]) for name in levels[0]}


def split_of(layout: bytes) -> Split:
    """Return the split that a layout belongs to, by its own hash."""
    return TENTHS.get(hashlib.sha256(layout).digest()[0] % 10, "train")


def draw_solved(config: SokobanConfig, n: int, generator: torch.Generator) -> State:
    """Draw walls, targets with the boxes on them, and a place for the agent."""
    inside = torch.zeros(config.size, config.size, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    walls = ~inside.flatten() | (torch.rand(n, config.size**2, generator=generator) < config.wall_density)
    order = torch.rand(n, config.size**2, generator=generator).masked_fill(walls, 2.0).argsort(1)[:, : config.n_boxes + 1]
    walls.scatter_(1, order, False)  # a place for everything, however many walls were drawn
    walls |= ~inside.flatten()
    targets = torch.zeros_like(walls).scatter_(1, order[:, 1:], True)
    return {"walls": walls, "targets": targets, "boxes": targets.clone(), "agent": order[:, 0]}


def play_backwards(state: State, size: int, generator: torch.Generator) -> State:
    """Walk at random, pulling what one can, and return the moment at which the boxes were farthest from the targets.

    The agent then walks on without pulling.
    """
    moves, n = torch.tensor([-size, 1, size, -1]), len(state["agent"])
    agent, boxes, rows = state["agent"], state["boxes"].clone(), torch.arange(n)
    heading, farthest = torch.randint(4, (n,), generator=generator), torch.zeros(n, dtype=torch.int64)
    kept_agent, kept_boxes = agent, boxes.clone()
    for _ in range(N_STEPS):
        turn = torch.rand(n, generator=generator) >= PERSISTENCE
        heading = torch.where(turn, torch.randint(4, (n,), generator=generator), heading)
        ahead, behind = agent + moves[heading], agent - moves[heading]
        free = ~(state["walls"] | boxes)[rows, ahead]
        pulls = free & boxes[rows, behind] & (torch.rand(n, generator=generator) < PULLING)
        boxes[rows[pulls], behind[pulls]] = False
        boxes[rows[pulls], agent[pulls]] = True
        agent = torch.where(free, ahead, agent)
        distance = displacement(boxes, state["targets"], size)
        farther = distance > farthest
        farthest = torch.where(farther, distance, farthest)
        kept_agent, kept_boxes = torch.where(farther, agent, kept_agent), torch.where(farther.unsqueeze(1), boxes, kept_boxes)
    return _wander({**state, "boxes": kept_boxes, "agent": kept_agent}, moves, generator)


def _wander(state: State, moves: Tensor, generator: torch.Generator) -> State:
    """Walk the agent about without touching a box, which every step back undoes."""
    agent, blocked, rows = state["agent"], state["walls"] | state["boxes"], torch.arange(len(state["agent"]))
    for _ in range(N_WANDERING):
        ahead = agent + moves[torch.randint(4, agent.shape, generator=generator)]
        agent = torch.where(blocked[rows, ahead], agent, ahead)
    return {**state, "agent": agent}


def displacement(boxes: Tensor, targets: Tensor, size: int) -> Tensor:
    """Return the summed city-block distance between boxes and targets, each in reading order, int64 (n,)."""
    places = torch.stack([plane.nonzero()[:, 1].view(len(boxes), -1) for plane in (boxes, targets)])
    rows, columns = places // size, places % size
    return ((rows[0] - rows[1]).abs() + (columns[0] - columns[1]).abs()).sum(1)


def _packed(state: State, *names: str) -> list[bytes]:
    """Return the named leaves of every row as bytes."""
    columns = [state[name].numpy().reshape(len(state["agent"]), -1).astype(np.uint8) for name in names]
    return [row.tobytes() for row in np.concatenate(columns, axis=1)]
