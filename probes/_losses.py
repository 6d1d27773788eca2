"""Held-out losses of each row, summed over groups: what every score and every interval is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from worldprobe.probes._validation import Floats, check_finite, check_mask, group_codes

PROBABILITY_FLOOR = 1e-6
"""Least probability that a probe gives to any class."""


def clip_probabilities(p: Floats, floor: float = PROBABILITY_FLOOR) -> tuple[Floats, float]:
    """Raise probabilities to a floor, and say how much mass that moved.

    Parameters
    ----------
    p : ndarray, shape (n_samples, n_classes)
        Probabilities.
    floor : float
        Least probability, so that no label costs more than log2(1 / floor) bits.

    Returns
    -------
    clipped : ndarray, shape (n_samples, n_classes)
        Probabilities that sum to one again.
    mass : float
        Mass added per sample, on average.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import clip_probabilities
    >>> clipped, mass = clip_probabilities(np.array([[1.0, 0.0], [0.5, 0.5]]))
    >>> float(clipped[0, 1]) > 9e-7, mass
    (True, 5e-07)
    """
    clipped = np.maximum(p, floor)
    mass = float((clipped - p).sum(axis=1).mean())
    return clipped / clipped.sum(axis=1, keepdims=True), mass


def group_sums(values: ArrayLike, groups: ArrayLike) -> Floats:
    """Sum values over the rows of each group.

    Parameters
    ----------
    values : array_like, shape (n_samples,)
    groups : array_like, shape (n_samples,)

    Returns
    -------
    ndarray, shape (n_groups,)
        Sums, in the order of `np.unique(groups)`, which is the order of all per-group arrays here.

    Examples
    --------
    >>> from worldprobe.probes import group_sums
    >>> group_sums([1.0, 2.0, 4.0], groups=[8, 7, 8])
    array([2., 5.])
    """
    rows = np.asarray(values, dtype=np.float64)
    return np.bincount(group_codes(groups, len(rows)), weights=rows).astype(np.float64)


def group_losses(
    Y: ArrayLike, predictions: ArrayLike, groups: ArrayLike, scale: float | Sequence[float] = 1.0, mask: ArrayLike | None = None
) -> Floats:
    r"""Sum the quadratic loss over the rows and targets of each group.

    .. math:: L_g = \sum_{i \in g} \sum_j \Big(\frac{y_{ij} - \hat y_{ij}}{s_j}\Big)^2 ,

    the Brier loss where Y is one-hot (or a conditional probability), the squared error in units of `scale` otherwise.

    Parameters
    ----------
    Y, predictions : array_like, shape (n_samples,) or (n_samples, n_targets)
    groups : array_like, shape (n_samples,)
    scale : float or sequence of float (n_targets,)
        Fixed unit of each target, never estimated from data.
    mask : array_like of bool, shape (n_samples,) or (n_samples, n_targets), optional
        Which labels exist; others add nothing.

    Returns
    -------
    ndarray, shape (n_groups,)
        Sums in the order of `np.unique(groups)`.

    Raises
    ------
    ValueError
        If Y and predictions differ in shape, or an entry is not finite.

    Examples
    --------
    >>> from worldprobe.probes import group_losses
    >>> group_losses([[1, 0], [0, 1]], [[0.5, 0.5], [0, 1]], groups=[3, 4])
    array([0.5, 0. ])
    """
    errors = (_columns(Y, "Y") - _columns(predictions, "predictions", like=np.shape(Y))) / np.asarray(scale, dtype=np.float64)
    return group_sums(np.sum(errors**2 * check_mask(mask, errors.shape), axis=1), groups)


def group_log_losses(
    labels: ArrayLike, probabilities: ArrayLike, groups: ArrayLike, classes: ArrayLike | None = None, mask: ArrayLike | None = None
) -> Floats:
    r"""Sum the log-loss in bits over the rows of each group.

    .. math:: L_g = -\sum_{i \in g} \log_2 \max(p_i(c_i), 10^{-6})

    (probabilities are renormalised after the floor is applied).

    Parameters
    ----------
    labels : array_like, shape (n_samples,)
        Class labels.
    probabilities : array_like, shape (n_samples, n_classes)
    groups : array_like, shape (n_samples,)
    classes : array_like, shape (n_classes,), optional
        Sorted labels of the columns; 0 .. n_classes - 1 if not given.
    mask : array_like of bool, shape (n_samples,), optional
        Which labels exist; others add nothing.

    Returns
    -------
    ndarray, shape (n_groups,)
        Bits in the order of `np.unique(groups)`.

    Raises
    ------
    ValueError
        If a label that exists is none of the classes.

    Examples
    --------
    >>> from worldprobe.probes import group_log_losses
    >>> group_log_losses([0, 1], [[0.5, 0.5], [0.75, 0.25]], groups=[3, 4]).round(4)
    array([1., 2.])
    """
    p = clip_probabilities(_columns(probabilities, "probabilities"))[0]
    known = np.arange(p.shape[1]) if classes is None else np.asarray(classes)
    given, labelled = np.asarray(labels), check_mask(mask, (len(p), 1))[:, 0]
    codes = np.minimum(np.searchsorted(known, given), len(known) - 1)
    strange = labelled & (known[codes] != given)
    if strange.any():
        raise ValueError(f"labels must be among the {len(known)} classes; row {np.flatnonzero(strange)[0]} holds {given[strange][0]}")
    return group_sums(np.where(labelled, -np.log2(p[np.arange(len(p)), codes]), 0.0), groups)


def _columns(values: ArrayLike, name: str, like: tuple[int, ...] | None = None) -> Floats:
    """Return finite values as columns, of the shape they should have."""
    array = np.asarray(values, dtype=np.float64)
    if like is not None and array.shape != like:
        raise ValueError(f"{name} must have the shape of Y, {like}; got {array.shape}")
    check_finite(array, name)
    return array.reshape(len(array), -1)
