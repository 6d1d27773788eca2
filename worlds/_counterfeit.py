"""Wrong laws for the same states: what a decoder that merely persists or averages would look equally good under."""

from __future__ import annotations

import torch
from torch import Tensor

from worldprobe.worlds._tables import FiniteTables

SAME = 1e-12
"""Rows of probabilities closer than this are one law."""


def counterfeit_transition(tables: FiniteTables, generator: torch.Generator) -> Tensor | None:
    """Return another transition law, float64 (A, S, S), as near to the true one as can be; None if there is none.

    Where actions matter, each running state whose actions lead to different places has them exchanged by a random
    permutation of its own that leaves no action in place: under uniformly random actions the law stays the same. In a world
    where no action ever matters, running states of equal observation exchange their rows.
    """
    if acting_states(tables).any():
        return _exchange_actions(tables, generator)
    return _exchange_states(tables, generator)


def acting_states(tables: FiniteTables) -> Tensor:
    """Return in which running states the actions differ, bool (S,)."""
    differs = (tables.transition - tables.transition[0]).abs().amax((0, 2)) > SAME
    return differs & ~tables.terminal


def _exchange_actions(tables: FiniteTables, generator: torch.Generator) -> Tensor:
    transition = tables.transition.clone()
    pending = acting_states(tables).nonzero().squeeze(1)
    actions = torch.arange(tables.n_actions)
    while pending.numel():
        order = torch.rand(pending.numel(), tables.n_actions, generator=generator).argsort(1)
        transition[:, pending] = tables.transition[order.T, pending]
        moved = (order != actions).all(1)
        changed = (transition - tables.transition)[:, pending].abs().amax((0, 2)) > SAME
        pending = pending[~(moved & changed)]
    return transition


def _exchange_states(tables: FiniteTables, generator: torch.Generator) -> Tensor | None:
    look_alikes = _look_alikes(tables)
    if not any(_differ(tables.transition[:, group]) for group in look_alikes):
        return None
    while True:
        transition = tables.transition.clone()
        for group in look_alikes:
            shuffled = group[torch.randperm(group.numel(), generator=generator)]
            transition[:, group] = tables.transition[:, shuffled]
        if (transition - tables.transition).abs().max() > SAME:
            return transition


def _look_alikes(tables: FiniteTables) -> list[Tensor]:
    """Return the groups of running states with the same law of observations."""
    running = (~tables.terminal).nonzero().squeeze(1)
    _, group = torch.unique(tables.observation[running], dim=0, return_inverse=True)
    return [running[group == index] for index in range(int(group.max()) + 1)]


def _differ(rows: Tensor) -> bool:
    """Whether the rows (A, m, S) are not all one law."""
    return bool(((rows - rows[:, :1]).abs() > SAME).any())
