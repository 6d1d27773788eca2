"""What was received up to a step, as an array: windows of inputs, their length, and the type of a window."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from worldprobe.probes._ridge import RidgeProbe
from worldprobe.probes._splits import check_groups
from worldprobe.probes._validation import Integers, check_finite, check_mask

COUNTING_TOLERANCE = 1e-9
"""What rounding may take from an effective number of types."""


def history_windows(inputs: ArrayLike, steps: ArrayLike, window: int) -> NDArray[np.float32]:
    """Lay the inputs of the last steps of an episode side by side.

    Parameters
    ----------
    inputs : array_like, shape (n_samples, n_inputs)
        What was received at each row (observation, previous action, previous reward). Rows of an episode follow one another.
    steps : array_like of int, shape (n_samples,)
        Step within its episode of each row, 0 at its first.
    window : int
        Number of past steps beside the present one.

    Returns
    -------
    ndarray of float32, shape (n_samples, (window + 1) * n_inputs)
        The present first, then one step ago, and so on; zeros before an episode's first step.

    Raises
    ------
    ValueError
        If steps do not count up by one within episodes, or the window is negative.

    Examples
    --------
    >>> from worldprobe.probes import history_windows
    >>> history_windows([[1], [2], [3], [4]], steps=[0, 1, 2, 0], window=1)
    array([[1., 0.], [2., 1.], [3., 2.], [4., 0.]], dtype=float32)
    """
    received = np.asarray(inputs, dtype=np.float32)
    check_finite(received, "inputs")
    t = check_steps(steps, len(received))
    if window < 0:
        raise ValueError(f"window must be 0 or more past steps; got {window}")
    lags = [np.where((t >= lag)[:, None], np.roll(received, lag, axis=0), np.float32(0)) for lag in range(window + 1)]
    return np.concatenate(lags, axis=1)


def choose_window(
    inputs: ArrayLike,
    steps: ArrayLike,
    Y: ArrayLike,
    groups: ArrayLike,
    validation: ArrayLike,
    beside: ArrayLike | None = None,
    max_width: int = 1500,
    probe: RidgeProbe | None = None,
) -> int:
    """Return the length of history from which a linear probe loses least on validation episodes.

    Windows of 1, 2, 4, ... past steps are tried, up to the longest episode or to `max_width` columns.

    Parameters
    ----------
    inputs : array_like, shape (n_samples, n_inputs)
        What was received at each row. Rows of an episode follow one another.
    steps : array_like of int, shape (n_samples,)
        Step within its episode of each row, 0 at its first.
    Y : array_like, shape (n_samples,) or (n_samples, n_targets)
        Real targets.
    groups : array_like, shape (n_samples,)
        Group (episode) of each row.
    validation : array_like of bool, shape (n_samples,)
        Rows, of whole groups, that windows are judged on; the others are fitted to.
    beside : array_like, shape (n_samples, n_columns), optional
        What is seen besides, without a past: the step, one-hot.
    max_width : int
        Columns that the windows may have.
    probe : RidgeProbe, optional
        `RidgeProbe()` by default.

    Returns
    -------
    int
        Past steps, for `history_windows`.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import choose_window
    >>> rng = np.random.default_rng(0)
    >>> steps, groups = np.tile(np.arange(16), 60), np.repeat(np.arange(60), 16)
    >>> seen = rng.normal(size=(960, 1))
    >>> two_steps_ago = np.where(steps >= 2, np.roll(seen[:, 0], 2), 0.0)
    >>> choose_window(seen, steps, two_steps_ago, groups, validation=groups < 20)
    2
    """
    targets, labels = np.asarray(Y), np.asarray(groups)
    held_out = check_mask(validation, (len(targets), 1))[:, 0]
    check_groups(labels, held_out)
    longest = int(min(np.max(steps), max_width // np.shape(inputs)[1] - 1))
    windows = sorted({min(2**power, max(1, longest)) for power in range(max(1, longest).bit_length() + 1)})
    losses = []
    for window in windows:
        X = history_windows(inputs, steps, window)
        X = X if beside is None else np.concatenate([X, np.asarray(beside, np.float32)], axis=1)
        fitted = clone(probe or RidgeProbe()).fit(X[~held_out], targets[~held_out], groups=labels[~held_out])
        losses.append(np.square(fitted.predict(X[held_out]) - targets[held_out]).sum())
    return int(windows[int(np.argmin(losses))])


def history_types(inputs: ArrayLike, steps: ArrayLike, n_types: int, effective: bool = False) -> Integers | None:
    """Number the histories of the shortest window that tells enough of them apart.

    Two rows are of one type if their last w inputs are equal, where w is the smallest window with `n_types` types or more. A window
    that reaches across the start of an episode is equal only to one that does so at the same step.

    Parameters
    ----------
    inputs : array_like, shape (n_samples, n_inputs)
        What was received at each row. Rows of an episode follow one another.
    steps : array_like of int, shape (n_samples,)
        Step within its episode of each row, 0 at its first.
    n_types : int
        Least number of types: 20 times the width of the representation, so that no linear probe can hold one answer per type.
    effective : bool
        Count exp(entropy) of the types in place of their number. Episodes that begin alike have many rows in few types, which a probe
        learns by heart however many rare types there are beside them.

    Returns
    -------
    ndarray of int64, shape (n_samples,), or None
        Type of each row, 0, 1, ...; None where even whole histories have fewer types.

    Examples
    --------
    >>> from worldprobe.probes import history_types
    >>> history_types([[1], [2], [2], [1]], steps=[0, 1, 2, 0], n_types=3)
    array([0, 1, 2, 0])
    """
    t = check_steps(steps, len(np.asarray(inputs)))
    present = _numbered(np.asarray(inputs))
    types = present
    for lag in range(1, int(t.max()) + 2):
        share = np.bincount(types) / len(types)
        if (np.exp(-share @ np.log(share)) + COUNTING_TOLERANCE if effective else len(share)) >= n_types:
            return types
        types = _numbered(np.stack([types, np.where(t >= lag, np.roll(present, lag), -1)], axis=1))
    return None


def check_steps(steps: ArrayLike, n_samples: int) -> Integers:
    """Return steps (n_samples,) that begin with 0 and then either count up or begin again."""
    t = np.asarray(steps)
    if t.shape != (n_samples,):
        raise ValueError(f"steps must hold one step per sample: expected shape ({n_samples},), got {t.shape}")
    follows = np.concatenate([[False], t[1:] == t[:-1] + 1])
    strange = np.flatnonzero(~follows & (t != 0))
    if len(strange):
        raise ValueError(
            f"steps must begin with 0 and count up by one within an episode, but row {strange[0]} holds {t[strange[0]]}; "
            "sort the rows by episode and step, and leave none out"
        )
    return t.astype(np.int64)


def _numbered(rows: NDArray[np.generic]) -> Integers:
    """Number the distinct rows of an array."""
    numbers: Integers = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return numbers
