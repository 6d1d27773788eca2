"""Out-of-fold predictions: every row is predicted by a probe that never saw its fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier

from worldprobe.probes._ridge import RidgeProbe
from worldprobe.probes._splits import check_folds
from worldprobe.probes._validation import Floats, Integers


class Predictor(Protocol):
    """A scikit-learn estimator."""

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn to predict Y from X."""

    def predict(self, X: Any) -> Any:
        """Predict Y."""


@runtime_checkable
class FoldFitter(Protocol):
    """An estimator that knows how to fit itself on the complement of every fold at once."""

    def fit_folds(
        self, X: Any, Y: Any, folds: ArrayLike, groups: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> Sequence[Predictor]:
        """Return one fitted estimator per fold, which has seen all but that fold."""


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Out-of-fold predictions and the probes that made them."""

    predictions: Any
    """Shaped as the estimator's `predict`, or `predict_proba` of a classifier (a list of one array per head if Y has columns)."""
    folds: Integers
    """Fold of each sample (n_samples,), numbered from 0."""
    estimators: Sequence[Any]
    """The fitted estimators; number f has not seen fold f."""
    classes: Any = None
    """Labels of the columns of a classifier's predictions (a list of one array per head if Y has columns); None for a regressor."""


def cross_fit(
    X: ArrayLike, Y: ArrayLike, groups: ArrayLike, folds: ArrayLike, estimator: Any = None, mask: ArrayLike | None = None
) -> CrossFit:
    """Predict every fold by an estimator fitted on the others.

    The penalty of our own probes is chosen inside, on the folds that remain, so a row takes part neither in the weights nor in the
    penalty that its prediction is made with. `RidgeProbe` reads X once for all of it.

    Parameters
    ----------
    X : array_like, shape (n_samples, n_features)
    Y : array_like, shape (n_samples,) or (n_samples, n_targets)
    groups : array_like, shape (n_samples,)
        Group (episode) of each row.
    folds : array_like, shape (n_samples,)
        Outer fold of each row, of whole groups (`group_folds`).
    estimator : scikit-learn estimator, optional
        `RidgeProbe()` by default. Estimators with `fit_folds` (all probes here) are given groups and mask; any other is fitted by
        `fit(X, Y)` on the rows outside each fold, and takes no mask.
    mask : array_like of bool, shape (n_samples,) or (n_samples, n_targets), optional
        Which labels exist. Rows without labels are predicted all the same.

    Returns
    -------
    CrossFit

    Raises
    ------
    ValueError
        If a fold splits a group, or a mask is given for an estimator that knows none.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import cross_fit, group_folds, r2
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(1000, 5)), np.repeat(np.arange(50), 20)
    >>> Y = X[:, 0] + rng.normal(size=1000)
    >>> fit = cross_fit(X, Y, groups, group_folds(groups))
    >>> float(r2(Y, fit.predictions).round(1)[0])
    0.5
    """
    probe = RidgeProbe() if estimator is None else estimator
    rows = np.asarray(X)
    parts = check_folds(folds, groups, len(rows))
    fitted = _fit_each(probe, rows, np.asarray(Y), parts, groups, mask)
    by_fold = [_predict(one, rows[parts == fold]) for fold, one in enumerate(fitted)]
    classes = getattr(fitted[0], "classes_", None)
    if isinstance(by_fold[0], list):
        return CrossFit([_reassemble([p[head] for p in by_fold], parts) for head in range(len(by_fold[0]))], parts, fitted, classes)
    return CrossFit(_reassemble(by_fold, parts), parts, fitted, classes)


def _fit_each(
    estimator: Any, X: NDArray[Any], Y: NDArray[Any], folds: Integers, groups: ArrayLike, mask: ArrayLike | None
) -> Sequence[Predictor]:
    """Return one fitted estimator per fold."""
    if isinstance(estimator, FoldFitter):
        return estimator.fit_folds(X, Y, folds, groups=groups, mask=mask)
    if mask is not None:
        raise ValueError(f"{type(estimator).__name__} takes no mask; leave out the rows without labels, or use a probe of this package")
    fitted: list[Predictor] = [clone(estimator).fit(X[folds != fold], Y[folds != fold]) for fold in range(int(folds.max()) + 1)]
    return fitted


def _predict(estimator: Any, X: NDArray[Any]) -> Any:
    """Return probabilities of a classifier, predictions of a regressor."""
    return estimator.predict_proba(X) if is_classifier(estimator) else estimator.predict(X)


def _reassemble(by_fold: Sequence[Floats], folds: Integers) -> Floats:
    """Put each fold's predictions back in the order of the samples."""
    shapes = {part.shape[1:] for part in by_fold}
    if len(shapes) > 1:
        raise ValueError(f"predictions of the folds differ in shape, {sorted(shapes)}: some class is absent from a training set")
    whole = np.empty((len(folds), *by_fold[0].shape[1:]))
    for fold, part in enumerate(by_fold):
        whole[folds == fold] = part
    return whole
