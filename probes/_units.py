"""Single units: which of them carry a label, how many are enough, and whether the best of many is better than chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from worldprobe.probes._nulls import GridTest, pseudo_session_test
from worldprobe.probes._ridge import DEFAULT_ALPHAS, RidgeProbe
from worldprobe.probes._splits import check_folds, inner_folds
from worldprobe.probes._standardise import Standardiser
from worldprobe.probes._validation import (
    Floats,
    Integers,
    check_features,
    check_finite,
    check_mask,
    check_real_targets,
    group_codes,
    unfitted_copy,
)

WEIGHT_ALPHAS = (1e-2,)
"""Penalty of the probe whose weights units are ranked by: fixed, so that the nulls differ in nothing but the labels."""

N_BINS = 8
"""Equal-count bins that a unit's activity is cut into where its information is counted."""


def weight_scores(X: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """Return the norm, over classes, of each unit's weights in a ridge probe of the one-hot labels, times the unit's standard deviation."""
    codes = group_codes(labels, len(X))
    coefficients = RidgeProbe(alphas=WEIGHT_ALPHAS).fit(X, np.eye(int(codes.max()) + 1)[codes]).coef_
    scores: Floats = np.linalg.norm(coefficients, axis=0) * X.std(axis=0)
    return scores


def difference_scores(X: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """Return the largest difference between class means of each unit, in its standard deviations."""
    codes, standardiser = group_codes(labels, len(X)), Standardiser.of(X)
    one_hot = np.eye(int(codes.max()) + 1)[codes]
    means = one_hot.T @ standardiser.apply(X) / one_hot.sum(axis=0)[:, None]
    scores: Floats = np.ptp(means, axis=0)
    return scores


def information_scores(X: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """Return the mutual information of each unit and the label, in bits, counted over equal-count bins (too high by a few 1 / rows)."""
    return binned_information(equal_count_bins(X), labels)


def equal_count_bins(X: NDArray[Any]) -> Integers:
    """Return the bin of every entry of X (n_samples, n_units): eighths of the ordered values of its unit, equal values in one bin."""
    return np.minimum((rankdata(X, axis=0, method="min") - 1) * N_BINS // len(X), N_BINS - 1).astype(np.int64)


def binned_information(bins: Integers, labels: NDArray[Any]) -> Floats:
    """Return the mutual information of each column of bins (n_samples, n_units) and class labels (n_samples,), in bits."""
    codes, n_units = group_codes(labels, len(bins)), bins.shape[1]
    n_classes = int(codes.max()) + 1
    cells = (np.arange(n_units) * N_BINS + bins) * n_classes + codes[:, None]
    joint = np.bincount(cells.reshape(-1), minlength=n_units * N_BINS * n_classes).reshape(n_units, N_BINS, n_classes) / len(bins)
    independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    scores: Floats = np.sum(joint * np.log2(np.divide(joint, independent, out=np.ones_like(joint), where=joint > 0)), axis=(1, 2))
    return scores


UNIT_SCORES: dict[str, Callable[[NDArray[Any], NDArray[Any]], Floats]] = {
    "weights": weight_scores,
    "mean difference": difference_scores,
    "information": information_scores,
}
"""What units are ranked by: functions of activations (n, n_units) and class labels (n,)."""


@dataclass(frozen=True, eq=False)
class UnitRanking:
    """Units, from the one that carries most."""

    order: Integers
    """Unit numbers, best first (n_units,)."""
    scores: Floats
    """Score of each unit, in the order of the columns (n_units,)."""
    test: GridTest
    """Against labels of other episodes; `family_wise` is the test against the best of all units."""


def rank_units(
    X: ArrayLike,
    labels: ArrayLike,
    steps: ArrayLike,
    groups: ArrayLike,
    score: str = "information",
    n_sessions: int = 99,
    random_state: int = 0,
) -> UnitRanking:
    """Rank units by what they carry of a label, and test each against the best unit under labels of other episodes.

    The best of many units looks selective by chance: its null is the best of as many units that have nothing to do with the label.

    Parameters
    ----------
    X : array_like, shape (n_samples, n_units)
    labels : array_like, shape (n_samples,)
        Class labels.
    steps, groups : array_like, shape (n_samples,)
        Step within its episode, and episode, of each row; rows of an episode follow one another.
    score : str
        A key of `UNIT_SCORES`.
    n_sessions : int
        Draws of the null (`pseudo_sessions`).
    random_state : int
        Seed of the draws.

    Returns
    -------
    UnitRanking

    Raises
    ------
    ValueError
        If the score is unknown, an entry is NaN, or there are fewer than two episodes.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import rank_units
    >>> rng = np.random.default_rng(0)
    >>> steps, groups = np.tile(np.arange(10), 100), np.repeat(np.arange(100), 10)
    >>> goal, X = rng.integers(2, size=100)[groups], rng.normal(size=(1000, 30))
    >>> X[:, 7] += goal
    >>> ranking = rank_units(X, goal, steps, groups)
    >>> int(ranking.order[0]), np.flatnonzero(ranking.test.family_wise <= 0.05)
    (7, array([7]))
    """
    if score not in UNIT_SCORES:
        raise ValueError(f"score must be one of {', '.join(UNIT_SCORES)}; got {score!r}")
    units = np.asarray(X)
    check_finite(units, "X")

    def statistic(drawn: NDArray[Any], mask: NDArray[np.bool_]) -> Floats:
        return UNIT_SCORES[score](units[mask], drawn[mask])

    test = pseudo_session_test(statistic, labels, steps, groups, n_sessions, random_state)
    return UnitRanking(np.argsort(-test.statistic, kind="stable"), test.statistic, test)


class SparseProbe(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    r"""Linear probe of k units, chosen one after the other, each for what it adds to the ones before.

    .. math:: j_{m+1} = \arg\max_j \sum_t \frac{\langle \tilde z_j, \tilde y_t \rangle^2}{\lVert \tilde z_j \rVert^2\, \mathrm{var}(y_t)}

    with unit and targets after regression on units :math:`j_1 .. j_m`; a `RidgeProbe` is then fitted to the k units.

    Parameters
    ----------
    n_units : int
        k, at most the number of features.
    alphas : sequence of float
        Penalties of the ridge probe.
    n_folds, random_state : int
        Its inner folds of whole groups.

    Attributes
    ----------
    units_ : ndarray (n_units,)
        Units in the order of choice: those of a probe of fewer units are the first of these.
    probe_ : RidgeProbe
        The probe of these units.

    References
    ----------
    Gurnee et al. 2023, "Finding neurons in a haystack: case studies with sparse probing"; Chen, Billings & Luo 1989, "Orthogonal least
    squares methods".

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import SparseProbe
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(500, 40)), np.repeat(np.arange(50), 10)
    >>> probe = SparseProbe(n_units=2).fit(X, 2 * X[:, 31] + X[:, 4], groups=groups)
    >>> probe.units_, round(probe.score(X, 2 * X[:, 31] + X[:, 4]), 2)
    (array([31,  4]), 1.0)
    """

    def __init__(self, n_units: int = 1, alphas: Sequence[float] = DEFAULT_ALPHAS, n_folds: int = 5, random_state: int = 0) -> None:
        self.n_units = n_units
        self.alphas = alphas
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None, folds: ArrayLike | None = None
    ) -> Self:
        """Choose the units and the penalty of each target, and solve. Parameters are those of `RidgeProbe.fit`; a mask is (n_samples,)."""
        X, targets = check_features(self, X, reset=True), check_real_targets(X, Y)
        if self.n_units < 1:
            raise ValueError(f"n_units must be 1 or more; got {self.n_units}")
        known = check_mask(mask, (len(X), 1))[:, 0]
        self.units_ = forward_selection(X[known], targets[known].reshape(int(known.sum()), -1), min(self.n_units, X.shape[1]))
        probe = RidgeProbe(self.alphas, self.n_folds, random_state=self.random_state)
        parts = folds if len(self.alphas) == 1 else inner_folds(self, X, groups, folds)
        self.probe_ = probe.fit(X[:, self.units_], targets, groups=groups, mask=mask, folds=parts)
        return self

    def fit_folds(
        self, X: ArrayLike, Y: ArrayLike, folds: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> list[SparseProbe]:
        """Return one probe per outer fold, its units and penalties chosen on the other folds. Parameters are those of `fit`."""
        X, targets = check_features(self, X, reset=True), check_real_targets(X, Y)
        outer, known = check_folds(folds, groups, len(X), least=3), check_mask(mask, (len(X), 1))[:, 0]
        training = [np.flatnonzero((outer != fold) & known) for fold in range(int(outer.max()) + 1)]
        return [unfitted_copy(self).fit(X[rows], targets[rows], folds=outer[rows]) for rows in training]

    def predict(self, X: ArrayLike) -> Floats:
        """Return predictions, (n_samples,) or (n_samples, n_targets) as Y was."""
        check_is_fitted(self)
        X = check_features(self, X, reset=False)
        return self.probe_.predict(X[:, self.units_])

    def __sklearn_tags__(self) -> Any:
        """Say that Y may have several columns."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def forward_selection(X: NDArray[Any], Y: Floats, n_units: int) -> Integers:
    """Return the units (n_units,) that forward selection takes from X (n, n_features) for all targets Y (n, n_targets) together."""
    standardised = [Standardiser.of(part).apply(part).astype(np.float64) for part in (X, Y)]
    gram, products = standardised[0].T @ standardised[0], standardised[0].T @ standardised[1]
    least, chosen = 1e-10 * len(X), np.empty(n_units, np.int64)
    left = np.ones(X.shape[1], np.bool_)
    for place in range(n_units):
        remaining = gram.diagonal()
        usable = left & (remaining > least)
        gains = np.divide(np.sum(products**2, axis=1), remaining, out=np.zeros(len(gram)), where=usable)
        unit = int(np.argmax(np.where(usable, gains, -1.0))) if usable.any() else int(np.flatnonzero(left)[0])
        chosen[place], left[unit] = unit, False
        if usable.any():
            row = gram[unit] / np.sqrt(remaining[unit])
            products = products - np.outer(row, products[unit] / np.sqrt(remaining[unit]))
            gram = gram - np.outer(row, row)
    return chosen
