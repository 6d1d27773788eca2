"""Null distributions that slow drift cannot fool, and the correction for looking at many cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldprobe.probes._history import check_steps
from worldprobe.probes._intervals import false_discovery_rate
from worldprobe.probes._validation import Booleans, Floats, Integers, check_finite, group_codes


def pseudo_sessions(
    Y: ArrayLike, steps: ArrayLike, groups: ArrayLike, n_sessions: int, random_state: int = 0
) -> Iterator[tuple[NDArray[Any], Booleans]]:
    """Yield labels that each episode might have had: those of another episode, at the same steps.

    Shuffled rows, circular shifts and phase randomisation destroy the slow drift that labels have by themselves, so that a representation
    which merely drifts seems to know them. Labels of another episode of the same world and policy drift as they do.

    Parameters
    ----------
    Y : array_like, shape (n_samples,) or (n_samples, n_targets)
    steps : array_like of int, shape (n_samples,)
        Step within its episode of each row. Rows of an episode follow one another.
    groups : array_like, shape (n_samples,)
        Episode of each row.
    n_sessions : int
        Number of draws.
    random_state : int
        Seed.

    Yields
    ------
    labels : ndarray, shaped as Y
        Each episode takes the labels of an episode that is not itself; each gives them once.
    mask : ndarray of bool, shape (n_samples,)
        False where the other episode had already ended, and there is no label.

    Raises
    ------
    ValueError
        If there are fewer than two episodes, or steps do not count up within them.

    References
    ----------
    Harris 2020, "Nonsense correlations in neuroscience", session permutation.

    Examples
    --------
    >>> from worldprobe.probes import pseudo_sessions
    >>> labels, mask = next(pseudo_sessions([1, 2, 3, 4, 5], steps=[0, 1, 2, 0, 1], groups=[0, 0, 0, 1, 1], n_sessions=1))
    >>> labels[mask], mask
    (array([4, 5, 1, 2]), array([ True,  True, False,  True,  True]))
    """
    given = np.asarray(Y)
    t, codes = check_steps(steps, len(given)), group_codes(groups, len(given))
    starts, lengths = np.flatnonzero(t == 0), np.bincount(codes)
    if len(starts) != len(lengths) or np.any(np.diff(codes)[t[1:] > 0] != 0):
        raise ValueError("every group must be one unbroken episode, whose steps begin with 0; sort the rows by episode and step")
    if len(starts) < 2:
        raise ValueError("labels are taken from other episodes, so at least 2 are needed; got 1")
    first = np.empty_like(starts)
    first[codes[starts]] = starts
    generator = np.random.default_rng(random_state)
    for _ in range(n_sessions):
        donor = _derangement(len(starts), generator)[codes]
        mask = t < lengths[donor]
        yield given[np.where(mask, first[donor] + t, 0)], mask


@dataclass(frozen=True, eq=False)
class GridTest:
    """p-values over a grid of cells (sites x horizons x factors), shaped as the statistic."""

    statistic: Floats
    p_values: Floats
    """(1 + nulls that reach the statistic) / (1 + nulls), of each cell by itself."""
    family_wise: Floats
    """The same against the largest null of all cells: reject where <= .05, and the chance of any false rejection is .05."""
    false_discovery: Floats
    """Benjamini-Hochberg: reject where <= .05, and .05 of the rejections are false on average."""


def grid_test(statistic: ArrayLike, null: ArrayLike) -> GridTest:
    r"""Test every cell of a grid against draws of the null, one by one and together.

    .. math:: p_c = \frac{1 + \#\{b : s_{bc} \ge s_c\}}{1 + B}, \qquad
        p^{\max}_c = \frac{1 + \#\{b : \max_{c'} s_{bc'} \ge s_c\}}{1 + B} .

    Parameters
    ----------
    statistic : array_like, shape (...)
        One number per cell, larger for more, in units that all cells share (R^2, bits per label), or the largest noise sets the bar.
    null : array_like, shape (n_null, ...)
        The same under each draw (`pseudo_sessions`), all cells of a draw together.

    Returns
    -------
    GridTest

    Raises
    ------
    ValueError
        If the shapes do not fit, or an entry is NaN: leave out cells that are not estimable.

    References
    ----------
    Westfall & Young 1993, "Resampling-based multiple testing" (the largest statistic); Benjamini & Hochberg 1995; Phipson & Smyth 2010
    (the added one).

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import grid_test
    >>> null = np.random.default_rng(0).normal(size=(99, 2, 3))
    >>> test = grid_test([[0.0, 0.0, 9.0], [0.0, 0.0, 2.0]], null)
    >>> bool(test.p_values[1, 2] <= 0.05), test.family_wise <= 0.05
    (True, array([[False, False,  True],
           [False, False, False]]))
    """
    observed, drawn = np.asarray(statistic, dtype=np.float64), np.asarray(null, dtype=np.float64)
    if drawn.shape[1:] != observed.shape or not len(drawn):
        raise ValueError(f"null must hold draws of the statistic, (n_null, *{observed.shape}); got shape {drawn.shape}")
    check_finite(observed, "statistic")
    check_finite(drawn, "null")
    largest = drawn.reshape(len(drawn), -1).max(axis=1)
    p_values = (1 + np.sum(drawn >= observed, axis=0)) / (1 + len(drawn))
    family_wise = (1 + np.sum(np.expand_dims(largest, tuple(range(1, drawn.ndim))) >= observed, axis=0)) / (1 + len(drawn))
    return GridTest(observed, p_values, family_wise, false_discovery_rate(p_values.reshape(-1)).reshape(observed.shape))


def pseudo_session_test(
    statistic: Callable[[NDArray[Any], Booleans], ArrayLike],
    Y: ArrayLike,
    steps: ArrayLike,
    groups: ArrayLike,
    n_sessions: int = 99,
    random_state: int = 0,
) -> GridTest:
    """Test a statistic of the labels, or a whole grid of them, against labels of other episodes.

    Parameters
    ----------
    statistic : callable
        Takes labels, shaped as Y, and a mask (n_samples,) of those that exist; returns one number, or one per cell.
    Y, steps, groups, n_sessions, random_state
        As in `pseudo_sessions`.

    Returns
    -------
    GridTest

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import pseudo_session_test
    >>> rng = np.random.default_rng(0)
    >>> steps, groups = np.tile(np.arange(20), 30), np.repeat(np.arange(30), 20)
    >>> position, noise = rng.normal(size=(2, 30, 20)).cumsum(axis=2).reshape(2, -1)
    >>> def correlations(labels, mask):
    ...     return [abs(np.corrcoef(x[mask], labels[mask])[0, 1]) for x in (position, noise)]
    >>> pseudo_session_test(correlations, position, steps, groups).family_wise <= 0.05
    array([ True, False])
    """
    given = np.asarray(Y)
    observed = np.asarray(statistic(given, np.ones(len(given), np.bool_)))
    null = [np.asarray(statistic(*drawn)) for drawn in pseudo_sessions(given, steps, groups, n_sessions, random_state)]
    return grid_test(observed, np.stack(null))


def _derangement(n: int, generator: np.random.Generator) -> Integers:
    """Return a random permutation that leaves nothing in its place."""
    while True:
        order: Integers = generator.permutation(n)
        if np.all(order != np.arange(n)):
            return order
