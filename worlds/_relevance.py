"""What a factor is needed for, read off Q*."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._mdp import solve_mdp
from worldprobe.worlds._world import Relevance

TOLERANCE = 1e-9
"""Values closer than this are equal."""


def factor_relevance(world: FiniteWorld, name: str) -> Relevance:
    """Compute what a factor is needed for by comparing Q* of running states that differ in it.

    Two states are compared if nothing else that is known tells them apart: they look alike (the same law of
    observations, unless the factor itself is seen) and agree in every other factor that does not already contain this one. A
    factor that the others determine is compared among all states that look alike.

    - "policy": some compared pair has no optimal action in common;
    - "value": every pair has one, but Q* differs;
    - "irrelevant": Q* does not change when only the factor does;
    - "unknown": no two states can be compared.

    Parameters
    ----------
    world : FiniteWorld
        The world.
    name : str
        Name of one of its factors.

    Returns
    -------
    Relevance
        The first of the classes above that holds.

    Raises
    ------
    KeyError
        If the world has no such factor.

    Examples
    --------
    >>> from worldprobe.worlds import TMaze, factor_relevance
    >>> world = TMaze(length=5)
    >>> factor_relevance(world, "goal"), factor_relevance(world, "position")
    ('policy', 'value')
    """
    classes = world.class_maps[world.factor(name).name]
    q_values = solve_mdp(world.tables, world.discount).q_values
    compared = [(q_values[group], _unequal(classes[group])) for group in _comparable(world, classes)]
    if not compared:
        return "unknown"
    if any((pair & ~_share_an_optimal_action(q)).any() for q, pair in compared):
        return "policy"
    if any((pair & (torch.cdist(q, q, p=torch.inf) > TOLERANCE)).any() for q, pair in compared):
        return "value"
    return "irrelevant"


def task_relevance(q_values: Tensor) -> Relevance:
    """Say what knowing one's task is needed for, from Q* of every task, (K, S, A), in the same way.

    Examples
    --------
    >>> import torch
    >>> q_values = torch.tensor([[[1.0, 0.0], [2.0, 2.0]], [[3.0, 0.0], [2.0, 2.0]]])
    >>> task_relevance(q_values), task_relevance(q_values[:1])
    ('value', 'unknown')
    """
    if len(q_values) < 2:
        return "unknown"
    by_state = q_values.transpose(0, 1)
    if any((~_share_an_optimal_action(q)).any() for q in by_state):
        return "policy"
    return "value" if (by_state - by_state[:, :1]).abs().max() > TOLERANCE else "irrelevant"


def _comparable(world: FiniteWorld, classes: Tensor) -> Iterator[Tensor]:
    """Yield the groups of running states that differ in the factor and in nothing else that is known."""
    others = [other for other in world.class_maps.values() if not _determines(other, classes)]
    looks = _labels(world.tables.observation)
    seen = [] if _determines(looks, classes) else [looks]
    groups = list(_varying(world, classes, seen + others))
    yield from groups or _varying(world, classes, seen)


def _varying(world: FiniteWorld, classes: Tensor, fixed: list[Tensor]) -> Iterator[Tensor]:
    """Yield the groups of running states that agree in all of `fixed` and in which the factor takes several classes."""
    running = ~world.tables.terminal
    alike = _labels(torch.stack([torch.zeros_like(classes), *fixed], 1))
    for label in range(int(alike.max()) + 1):
        group = ((alike == label) & running).nonzero().squeeze(1)
        if group.numel() and (classes[group] != classes[group[0]]).any():
            yield group


def _unequal(classes: Tensor) -> Tensor:
    """Return which pairs of states differ in the factor, bool (m, m)."""
    return classes.unsqueeze(0) != classes.unsqueeze(1)


def _share_an_optimal_action(q_values: Tensor) -> Tensor:
    """Return which pairs of states have an optimal action in common, bool (m, m)."""
    optimal = (q_values >= q_values.amax(1, keepdim=True) - TOLERANCE).double()
    return optimal @ optimal.T > 0


def _determines(finer: Tensor, coarser: Tensor) -> bool:
    """Whether the labels `coarser` are a function of the labels `finer`."""
    both = _labels(torch.stack([finer, coarser], 1))
    return bool(both.max() == _labels(finer.unsqueeze(1)).max())


def _labels(rows: Tensor) -> Tensor:
    """Number the distinct rows, int64 (S,)."""
    labels: Tensor = torch.unique(rows, dim=0, return_inverse=True)[1]
    return labels
