"""Splits that cannot leak: a fold holds whole groups (episodes)."""

from __future__ import annotations

from heapq import heapify, heapreplace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldprobe.probes._ungrouped import warn_of_ungrouped_rows
from worldprobe.probes._validation import Integers, group_codes, listing


def group_folds(groups: ArrayLike, n_folds: int = 5, random_state: int = 0) -> Integers:
    """Deal whole groups into folds that hold about equally many rows.

    Groups are shuffled, taken from the largest to the smallest, and each goes to the fold that is lightest so far.

    Parameters
    ----------
    groups : array_like, shape (n_samples,)
        Group (episode) of each sample; any sortable labels.
    n_folds : int
        Number of folds, at most the number of groups.
    random_state : int
        Seed of the shuffle.

    Returns
    -------
    ndarray of int64, shape (n_samples,)
        Fold of each sample, 0 .. n_folds - 1.

    Raises
    ------
    ValueError
        If there are fewer groups than folds, or fewer than two folds.

    Examples
    --------
    >>> from worldprobe.probes import group_folds
    >>> group_folds([7, 7, 7, 8, 8, 9], n_folds=2)
    array([0, 0, 0, 1, 1, 1])
    """
    codes = group_codes(groups, len(np.asarray(groups)))
    sizes = np.bincount(codes)
    if not 2 <= n_folds <= len(sizes):
        raise ValueError(f"n_folds must lie between 2 and the number of groups ({len(sizes)}); got {n_folds}")
    shuffled = np.random.default_rng(random_state).permutation(len(sizes))
    fold_of_group = np.empty(len(sizes), dtype=np.int64)
    load = [(0, fold) for fold in range(n_folds)]
    heapify(load)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        rows, fold = load[0]
        fold_of_group[group] = fold
        heapreplace(load, (rows + int(sizes[group]), fold))
    return fold_of_group[codes]


def check_groups(groups: ArrayLike, folds: ArrayLike) -> None:
    """Refuse a split that runs through a group.

    Parameters
    ----------
    groups : array_like, shape (n_samples,)
        Group (episode) of each sample.
    folds : array_like, shape (n_samples,)
        Fold, or side of the split, of each sample.

    Raises
    ------
    ValueError
        If rows of one group lie in more than one fold; the message names the groups.

    Examples
    --------
    >>> from worldprobe.probes import check_groups
    >>> check_groups([3, 3, 4], folds=[0, 0, 1])
    >>> check_groups([3, 3, 4], folds=[0, 1, 1])
    Traceback (most recent call last):
    ...
    ValueError: every group must lie in one fold, but group 3 is split; deal out whole groups (`group_folds`)
    """
    labels = np.asarray(groups)
    codes, sides = group_codes(labels, len(labels)), group_codes(folds, len(labels))
    one_side = np.zeros(int(codes.max(initial=-1)) + 1, np.int64)
    one_side[codes] = sides
    split = np.unique(codes[sides != one_side[codes]])
    if len(split):
        names = listing(np.unique(labels)[split])
        raise ValueError(
            f"every group must lie in one fold, but group {names} {'is' if len(split) == 1 else 'are'} split; "
            "deal out whole groups (`group_folds`)"
        )


def check_folds(folds: ArrayLike, groups: ArrayLike | None, n_samples: int, least: int = 2) -> Integers:
    """Return `folds` as int64 numbers 0 .. n_folds - 1 without gaps, at least `least` of them, none of which splits a group."""
    given = np.asarray(folds)
    if given.shape != (n_samples,):
        raise ValueError(f"folds must hold one fold per sample: expected shape ({n_samples},), got {given.shape}")
    if groups is not None:
        check_groups(groups, given)
    codes = group_codes(given, n_samples)
    if codes.max() + 1 < least:
        raise ValueError(f"at least {least} folds are needed; got {codes.max() + 1}")
    return codes


class FoldChooser(Protocol):
    """An estimator that chooses a penalty on inner folds."""

    n_folds: int
    random_state: int


def inner_folds(estimator: FoldChooser, X: NDArray[Any], groups: ArrayLike | None, folds: ArrayLike | None) -> Integers:
    """Return the folds of rows X that a penalty is chosen on: those given, or groups dealt into at most `n_folds`."""
    if folds is not None:
        return check_folds(folds, groups, len(X))
    if groups is None:
        warn_of_ungrouped_rows(estimator, X)
    codes = group_codes(groups, len(X))
    n_groups = int(codes.max()) + 1
    if n_groups < 2:
        raise ValueError("choosing a penalty needs at least 2 groups, got 1; give a single penalty in `alphas`, or more groups")
    return group_folds(codes, min(estimator.n_folds, n_groups), estimator.random_state)


class StreamedFolds:
    """Deals groups into folds as they arrive: a new group goes to the fold of fewest rows so far, a known one where it was.

    Parameters
    ----------
    n_folds : int
    """

    def __init__(self, n_folds: int) -> None:
        self._rows = [0] * n_folds
        self._fold: dict[object, int] = {}

    def deal(self, groups: ArrayLike, n_samples: int) -> Integers:
        """Return the fold of each row of a batch (n_samples,)."""
        codes = group_codes(groups, n_samples)
        labels, first, sizes = np.unique(np.asarray(groups), return_index=True, return_counts=True)
        folds = np.empty(len(labels), dtype=np.int64)
        for place in np.argsort(first):
            lightest = self._rows.index(min(self._rows))
            folds[place] = self._fold.setdefault(labels[place].item(), lightest)
            self._rows[folds[place]] += int(sizes[place])
        return folds[codes]
