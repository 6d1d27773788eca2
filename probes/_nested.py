"""Choosing a penalty on inner folds, and doing so inside every outer fold at the price of pairs.

Both need only one thing from a probe: all solutions along its penalties for the folds that are *not* left out, and their
loss on a fold that is. Leaving out the pair {a, b} serves twice: it judges penalties on b for the outer fold a, and on a for
the outer fold b, so K outer folds cost K (K - 1) / 2 + K training sets instead of K^2.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from typing import Protocol, TypeVar, cast

import numpy as np

from worldprobe.probes._threads import map_in_threads
from worldprobe.probes._validation import Floats, Integers


class Path(Protocol):
    """All solutions of one training set along the penalties."""

    def losses(self, fold: int) -> Floats:
        """Return the summed loss on a held-out fold, (n_choices, n_targets)."""


P_co = TypeVar("P_co", bound=Path, covariant=True)


class Problem(Protocol[P_co]):
    """Rows in folds, from which any training set can be solved."""

    @property
    def n_folds(self) -> int:
        """Number of folds."""

    def path(self, without: Collection[int]) -> P_co:
        """Solve the training set of all folds but those in `without`."""


def inner_losses(problem: Problem[P_co]) -> tuple[P_co, Floats]:
    """Return the solution of all folds, and the loss of every choice (n_choices, n_targets), each fold judged by that of the others."""

    def judged(fold: int | None) -> P_co | Floats:
        return problem.path(()) if fold is None else problem.path({fold}).losses(fold)

    *losses, path = map_in_threads(judged, [*range(problem.n_folds), None])
    return cast(P_co, path), np.sum(cast(list[Floats], losses), axis=0)


def nested_losses(problem: Problem[P_co]) -> list[Floats]:
    """Return, for each outer fold, the loss of every choice on the remaining folds, never having seen the outer one."""
    losses: list[Floats] = [np.zeros(()) for _ in range(problem.n_folds)]
    pairs = list(combinations(range(problem.n_folds), 2))

    def both(pair: tuple[int, int]) -> tuple[Floats, Floats]:
        path = problem.path(pair)
        return path.losses(pair[1]), path.losses(pair[0])

    for (one, other), (of_other, of_one) in zip(pairs, map_in_threads(both, pairs), strict=True):
        losses[one] = losses[one] + of_other
        losses[other] = losses[other] + of_one
    return losses


def choose(losses: Floats) -> Integers:
    """Return the choice of least loss for each target."""
    chosen: Integers = losses.argmin(axis=0)
    return chosen


def check_training_rows(n_rows: int, without: Collection[int]) -> None:
    """Refuse a training set of fewer than two labelled rows."""
    if n_rows < 2:
        folds = ", ".join(map(str, sorted(without)))
        raise ValueError(f"a probe needs 2 labelled rows or more, but without fold {folds} there are {n_rows}; deal fewer or other folds")
