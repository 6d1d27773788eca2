"""Rows that occur twice, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldprobe.probes._validation import Booleans, Integers, check_rows, group_codes, listing

BLOCK_ROWS = 4096
"""Rows that are hashed at a time."""


def count_identical_rows(X: ArrayLike, folds: ArrayLike) -> Integers:
    """Count the rows of each fold that occur, to the bit, in another fold as well.

    Such rows are memorised and not decoded. They are counted and not refused: beliefs and states of small worlds repeat by nature.

    Parameters
    ----------
    X : array_like, shape (n_samples, n_features)
    folds : array_like, shape (n_samples,)
        Fold, or side of the split, of each sample.

    Returns
    -------
    ndarray of int64, shape (n_folds,)
        Counts in the order of `np.unique(folds)`.

    Notes
    -----
    Rows are compared by 64-bit hashes of all their bits: n rows are wrongly counted with a chance below n^2 / 2^63.

    Examples
    --------
    >>> from worldprobe.probes import count_identical_rows
    >>> count_identical_rows([[0.0, 1.0], [0.0, 1.0], [2.0, 1.0], [2.0, 3.0], [0.0, 1.0]], folds=[0, 0, 0, 1, 1])
    array([2, 1])
    """
    rows = check_rows(X)
    sides = group_codes(folds, len(rows))
    return np.bincount(sides[_in_several(rows, sides)], minlength=int(sides.max()) + 1).astype(np.int64)


def check_identical_rows(X: ArrayLike, folds: ArrayLike) -> None:
    """Refuse rows that occur, to the bit, in another fold as well.

    Parameters
    ----------
    X : array_like, shape (n_samples, n_features)
    folds : array_like, shape (n_samples,)
        Fold, or side of the split, of each sample.

    Raises
    ------
    ValueError
        If there are such rows; the message counts them and names the first.

    Examples
    --------
    >>> from worldprobe.probes import check_identical_rows
    >>> check_identical_rows([[0.0], [1.0], [0.0]], folds=[0, 0, 1])
    Traceback (most recent call last):
    ...
    ValueError: every row must occur in one fold only, but 2 of 3 occur in several (row 0, 2); put equal rows into one group, or drop them
    """
    rows = check_rows(X)
    shared = np.flatnonzero(_in_several(rows, group_codes(folds, len(rows))))
    if len(shared):
        raise ValueError(
            f"every row must occur in one fold only, but {len(shared)} of {len(rows)} occur in several (row {listing(shared)}); "
            "put equal rows into one group, or drop them"
        )


def count_repeats(X: NDArray[Any]) -> int:
    """Count the rows that are equal, to the bit, to an earlier one."""
    return len(X) - len(np.unique(_hashes(X)))


def _in_several(rows: NDArray[Any], sides: Integers) -> Booleans:
    """Return which rows occur on several sides."""
    codes = group_codes(_hashes(rows), len(rows))
    first = np.empty(int(codes.max()) + 1, np.int64)
    first[codes] = sides
    several = np.zeros(len(first), np.bool_)
    several[codes[sides != first[codes]]] = True
    shared: Booleans = several[codes]
    return shared


def _hashes(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a hash of each row (n_samples,): the sum of its mixed words times random odd numbers, modulo 2^64."""
    odd = np.random.default_rng(0).integers(2**63, size=rows.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    hashes = np.empty(len(rows), np.uint64)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = (rows[start : start + BLOCK_ROWS] + 0.0).astype(np.float64, copy=False)  # + 0.0 makes -0.0 the zero it equals
        words = np.ascontiguousarray(block).view(np.uint64)
        words *= np.uint64(0x9E3779B97F4A7C15)
        words ^= words >> np.uint64(32)
        hashes[start : start + BLOCK_ROWS] = np.einsum("nf,f->n", words, odd)
    return hashes
