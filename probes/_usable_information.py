"""Usable information, cross-fitted: what probes of one family save by seeing a representation, given other variables or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from worldprobe.probes._crossfit import cross_fit
from worldprobe.probes._intervals import RatioEstimate
from worldprobe.probes._logistic import LogisticProbe
from worldprobe.probes._losses import group_log_losses, group_sums
from worldprobe.probes._metrics import usable_information
from worldprobe.probes._validation import Floats, check_finite, check_mask


@dataclass(frozen=True, eq=False)
class UsableInformation:
    """Bits per label that a representation adds, with what they were computed from."""

    bits: RatioEstimate
    """With the interval whose unit is the group."""
    without: Floats
    """Held-out bits of each group (n_groups,), in the order of `np.unique(groups)`, without the representation."""
    with_representation: Floats
    """The same with it."""
    n_labels: Floats
    """Labels of each group (n_groups,)."""


def estimate_usable_information(
    X: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    folds: ArrayLike,
    given: ArrayLike | None = None,
    estimator: Any = None,
    mask: ArrayLike | None = None,
    level: float = 0.95,
) -> UsableInformation:
    r"""Estimate the usable information about labels in a representation, given other variables or nothing.

    .. math:: I_V(X \to Y \mid F) = H_V(Y \mid F) - H_V(Y \mid F, X) ,

    where :math:`H_V` is the held-out log-loss, in bits per label, of probes of the family V that are fitted on the other folds. Unlike
    mutual information it grows with computation: it is larger for richer families, and for representations that make the labels plain. It
    is negative where the probe learned noise.

    Parameters
    ----------
    X : array_like, shape (n_samples, n_features)
        The representation.
    labels : array_like, shape (n_samples,)
        Class labels.
    groups, folds : array_like, shape (n_samples,)
        Group (episode) and outer fold of each row, three folds or more.
    given : array_like, shape (n_samples, n_given), optional
        F: the observation, or a floor. Without it, F is a constant, from which a probe learns the class frequencies.
    estimator : classifier of this package, optional
        The family V: `LogisticProbe()` by default; `MLPProbe(loss="log")` for a richer one.
    mask : array_like of bool, shape (n_samples,), optional
        Which labels exist.
    level : float
        Coverage of the interval.

    Returns
    -------
    UsableInformation

    Raises
    ------
    ValueError
        If an entry is NaN, a fold splits a group, or a training set is left with one class.

    References
    ----------
    Xu et al. 2020, "A theory of usable information under computational constraints", definition 2; Hewitt et al. 2021, "Conditional
    probing: measuring usable information beyond a baseline", eq. 5.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import estimate_usable_information, group_folds
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(100), 20)
    >>> observation, hidden = rng.integers(2, size=2000), rng.integers(2, size=2000)
    >>> goal = 2 * observation + hidden
    >>> X = np.column_stack([observation, hidden])
    >>> total = estimate_usable_information(X, goal, groups, group_folds(groups))
    >>> beyond = estimate_usable_information(X, goal, groups, group_folds(groups), given=observation[:, None])
    >>> round(total.bits.estimate, 1), round(beyond.bits.estimate, 1)
    (2.0, 1.0)
    """
    rows, targets = np.asarray(X), np.asarray(labels)
    check_finite(rows, "X")
    known = check_mask(mask, (len(rows), 1))[:, 0]
    baseline = np.zeros((len(rows), 1), rows.dtype) if given is None else np.asarray(given)
    probe = LogisticProbe() if estimator is None else estimator
    losses = []
    for features in (baseline, np.concatenate([baseline, rows], axis=1)):
        fit = cross_fit(features, targets, groups, folds, probe, mask=known)
        losses.append(group_log_losses(targets, fit.predictions, groups, fit.classes, known))
    n_labels = group_sums(known, groups)
    return UsableInformation(usable_information(losses[0], losses[1], n_labels, level), losses[0], losses[1], n_labels)
