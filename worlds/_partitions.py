"""Which states need not be told apart: bisimulation, equal Q*, and equal optimal actions, exact on tables."""

from __future__ import annotations

import torch
from torch import Tensor

from worldprobe.worlds._tables import FiniteTables

TOLERANCE = 1e-9
"""Difference at which numbers are the same, after rounding to multiples of it."""


def bisimulation(tables: FiniteTables, *, observed: bool = False) -> Tensor:
    """Return the coarsest partition whose blocks agree in what every action pays and in which block it leads to.

    Parameters
    ----------
    tables : FiniteTables
    observed : bool
        Whether states of a block must look alike, too, so that beliefs over blocks follow from beliefs over blocks.

    Returns
    -------
    Tensor
        int64 (S,): the number of each state's block.

    References
    ----------
    Givan, Dean & Greig 2003, "Equivalence notions and model minimization in Markov decision processes".

    Examples
    --------
    Before the treasure's arms of a T-Maze, both goals are told apart, place by place:

    >>> from worldprobe.worlds import TMaze, bisimulation
    >>> int(bisimulation(TMaze(length=3).tables).max()) + 1
    9
    """
    look = [tables.observation] if observed else []
    blocks = _numbered(torch.cat([tables.expected_reward(), tables.terminal[:, None].double(), *look], 1))
    while True:
        member = torch.nn.functional.one_hot(blocks).double()
        leads = (tables.transition @ member).transpose(0, 1).flatten(1)
        finer = _numbered(torch.cat([blocks[:, None].double(), leads], 1))
        if int(finer.max()) == int(blocks.max()):
            return blocks
        blocks = finer


def q_irrelevance(q_values: Tensor) -> Tensor:
    """Return the partition into states of equal values of every action, int64 (S,), by Q* (S, A).

    References
    ----------
    Li, Walsh & Littman 2006, "Towards a unified theory of state abstraction for MDPs".
    """
    return _numbered(q_values)


def optimal_sets(q_values: Tensor, epsilon: float = 0.0) -> Tensor:
    """Return the partition into rows with the same actions within epsilon of the best, int64 (n,), by values (n, A) of states or beliefs.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import optimal_sets
    >>> optimal_sets(torch.tensor([[1.0, 0.0], [5.0, 2.0], [1.0, 1.0]])).tolist()
    [0, 0, 1]
    """
    return _numbered((q_values >= q_values.amax(1, keepdim=True) - epsilon - TOLERANCE).double())


def _numbered(rows: Tensor) -> Tensor:
    """Number distinct rows (n, k) in the order in which they first come."""
    rounded = torch.round(rows / TOLERANCE)
    _, codes = torch.unique(rounded, dim=0, return_inverse=True)
    first = torch.full((int(codes.max()) + 1,), len(codes)).scatter_reduce(0, codes, torch.arange(len(codes)), "amin")
    order = torch.empty_like(first)
    order[first.argsort()] = torch.arange(len(first))
    return order[codes]
