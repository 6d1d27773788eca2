"""Streams without episodes: blocks of time as groups, and no row whose target lies in another fold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from worldprobe.probes._validation import Booleans, Integers, group_codes


def time_blocks(streams: ArrayLike, length: int) -> Integers:
    """Cut streams into blocks of consecutive rows, to be groups where there are no episodes, or only a few long ones.

    Parameters
    ----------
    streams : array_like, shape (n_samples,)
        Stream (episode, environment) of each row; rows of one stream are in the order of time.
    length : int
        Rows of a block, many times the longest horizon and the memory of the world; the last block of a stream may be shorter.

    Returns
    -------
    ndarray of int64, shape (n_samples,)
        Block of each row.

    Raises
    ------
    ValueError
        If the length is not positive.

    Examples
    --------
    >>> from worldprobe.probes import time_blocks
    >>> time_blocks(["a", "a", "a", "b", "b", "b"], length=2)
    array([0, 0, 1, 2, 2, 3])
    """
    if length < 1:
        raise ValueError(f"a block must have a row or more; got length {length}")
    codes = group_codes(streams, len(np.asarray(streams)))
    return group_codes(codes * len(codes) + _steps(codes) // length, len(codes))


def embargo_mask(folds: ArrayLike, streams: ArrayLike, horizons: Sequence[int] | int) -> Booleans:
    """Say which rows keep within their fold up to their target: the `mask` of a fit on targets that lie ahead.

    The target of row t at horizon k is row t + k of its stream. Where a stream runs through several folds (`time_blocks`), the target of
    the last rows before a border is a label of the next fold: a probe that learns from them has seen what it is judged on.

    Parameters
    ----------
    folds : array_like, shape (n_samples,)
        Fold of each row.
    streams : array_like, shape (n_samples,)
        Stream of each row; rows of one stream are in the order of time.
    horizons : int or sequence of int
        Steps from a row to its target; negative ones look back.

    Returns
    -------
    ndarray of bool, shape (n_samples,) or (n_samples, n_horizons)
        False where a row between the row and its target, or the target itself, lies in another fold or beyond the stream.

    Examples
    --------
    >>> from worldprobe.probes import embargo_mask
    >>> embargo_mask(folds=[0, 0, 0, 1, 1], streams=[7, 7, 7, 7, 7], horizons=1)
    array([ True,  True, False,  True, False])
    """
    sides = group_codes(folds, len(np.asarray(folds)))
    codes = group_codes(streams, len(sides))
    order = np.argsort(codes, kind="stable")
    ordered = np.stack([codes, sides], axis=1)[order]
    border = np.concatenate([[True], np.any(ordered[1:] != ordered[:-1], axis=1), [True]])
    starts, run = np.flatnonzero(border), np.cumsum(border[:-1]) - 1
    place = np.arange(len(sides))
    ahead = place[:, None] + np.atleast_1d(np.asarray(horizons, np.int64))
    kept = np.empty(ahead.shape, np.bool_)
    kept[order] = (ahead >= starts[run][:, None]) & (ahead < starts[run + 1][:, None])
    mask: Booleans = kept[:, 0] if np.ndim(horizons) == 0 else kept
    return mask


def _steps(codes: Integers) -> Integers:
    """Return the number of each row within its stream."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], codes[order])
    steps = np.empty(len(codes), np.int64)
    steps[order] = np.arange(len(codes)) - starts
    return steps
