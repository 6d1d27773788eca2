"""Control tasks: labels that only memory could supply, to tell what a representation holds from what a probe can learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldprobe.probes._crossfit import cross_fit
from worldprobe.probes._intervals import RatioEstimate, ratio_interval
from worldprobe.probes._logistic import LogisticProbe
from worldprobe.probes._losses import group_sums
from worldprobe.probes._validation import check_mask, group_codes


def control_labels(labels: ArrayLike, types: ArrayLike, random_state: int = 0) -> NDArray[Any]:
    """Draw one label for each type, from the labels' own frequencies.

    A probe can name them only by telling the types apart and learning each one's label by heart.

    Parameters
    ----------
    labels : array_like, shape (n_samples,)
        The labels of the task.
    types : array_like, shape (n_samples,)
        Type of each row (`history_types`): a word in language, a stretch of history in a world. Types of single observations are too few,
        and a linear probe learns them for nothing.
    random_state : int
        Seed of the draw.

    Returns
    -------
    ndarray, shape (n_samples,)
        Equal for rows of one type.

    References
    ----------
    Hewitt & Liang 2019, "Designing and interpreting probes with control tasks", section 2.

    Examples
    --------
    >>> from worldprobe.probes import control_labels
    >>> control_labels(["left", "right", "left", "left"], types=[0, 1, 1, 2], random_state=1)
    array(['right', 'left', 'left', 'left'], dtype='<U5')
    """
    task = np.asarray(labels)
    codes = group_codes(types, len(task))
    drawn: NDArray[Any] = np.random.default_rng(random_state).choice(task, size=int(codes.max()) + 1)
    return drawn[codes]


@dataclass(frozen=True, eq=False)
class Selectivity:
    """Accuracies on a task and on its control task, held out by group."""

    task: float
    control: float
    selectivity: RatioEstimate
    """task - control, with its paired interval over groups."""


def estimate_selectivity(
    X: ArrayLike,
    labels: ArrayLike,
    control: ArrayLike,
    groups: ArrayLike,
    folds: ArrayLike,
    estimator: Any = None,
    mask: ArrayLike | None = None,
    level: float = 0.95,
) -> Selectivity:
    """Estimate how much better a probe does a task than a control task of equal label frequencies.

    A selective probe reads what is there; one that does both well has learned by heart, and its accuracy says little of the representation.

    Parameters
    ----------
    X : array_like, shape (n_samples, n_features)
    labels : array_like, shape (n_samples,)
        Class labels of the task.
    control : array_like, shape (n_samples,)
        Those of the control task (`control_labels`).
    groups, folds : array_like, shape (n_samples,)
        Group (episode) and outer fold of each row.
    estimator : classifier of this package, optional
        `LogisticProbe()` by default.
    mask : array_like of bool, shape (n_samples,), optional
        Which labels exist.
    level : float
        Coverage of the interval.

    Returns
    -------
    Selectivity

    References
    ----------
    Hewitt & Liang 2019, "Designing and interpreting probes with control tasks", section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import control_labels, estimate_selectivity, group_folds
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(2000, 4)), np.repeat(np.arange(100), 20)
    >>> goal = X[:, 0] > 0
    >>> control = control_labels(goal, types=np.arange(2000) % 1000)
    >>> 0.45 < estimate_selectivity(X, goal, control, groups, group_folds(groups)).selectivity.estimate < 0.55
    True
    """
    known = check_mask(mask, (len(np.asarray(labels)), 1))[:, 0]
    probe, n_labels = LogisticProbe() if estimator is None else estimator, group_sums(known, groups)
    hits = []
    for target in (np.asarray(labels), np.asarray(control)):
        fit = cross_fit(X, target, groups, folds, probe, mask=known)
        named = np.asarray(fit.classes)[fit.predictions.argmax(axis=1)]
        hits.append(group_sums((named == target) & known, groups))
    total = float(n_labels.sum())
    return Selectivity(hits[0].sum() / total, hits[1].sum() / total, ratio_interval(hits[0] - hits[1], n_labels, level))
