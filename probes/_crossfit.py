"""Out-of-fold predictions: every row is predicted by a probe that never saw its fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from worldprobe.probes._ridge import RidgeProbe
from worldprobe.probes._splits import check_folds, group_folds
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
        `RidgeProbe()` by default. Estimators with `fit_folds` (all probes here) are given groups and mask; any other is fitted on the
        rows outside each fold, with their groups if its `fit`, or that of a pipeline's last step, takes any, and knows no mask.
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


def cross_validate(
    estimator: Any,
    X: ArrayLike,
    Y: ArrayLike,
    groups: ArrayLike,
    *,
    folds: ArrayLike | None = None,
    scoring: str | Callable[..., float] | Mapping[str, str | Callable[..., float]] | None = None,
    mask: ArrayLike | None = None,
) -> pd.DataFrame:
    """Score an estimator on held-out groups, as scikit-learn's function of this name does, but hand the groups to `fit` as well.

    Parameters
    ----------
    estimator : scikit-learn estimator
        A probe, or any other; a pipeline's last step is given the groups too.
    X : array_like, shape (n_samples, n_features)
    Y : array_like, shape (n_samples,) or (n_samples, n_targets)
    groups : array_like, shape (n_samples,)
        Group (episode) of each row.
    folds : array_like, shape (n_samples,), optional
        Outer folds of whole groups; five by default (`group_folds`).
    scoring : str, callable, or dict of such, optional
        Scores by scikit-learn's names ("r2", "neg_log_loss", ...), or functions of (estimator, X, Y); the estimator's own by default.
    mask : array_like of bool, shape (n_samples,), optional
        Rows that have labels; others are neither learned from nor scored.

    Returns
    -------
    pandas.DataFrame
        One row per fold: fold, n_training, n_held_out, and a column per score ("score" unless `scoring` names them).

    Raises
    ------
    ValueError
        If a fold splits a group, or the mask is not one per row.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from worldprobe.probes import RandomFeatures, RidgeProbe, cross_validate
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(1000, 3)), np.repeat(np.arange(50), 20)
    >>> scores = cross_validate(make_pipeline(RandomFeatures(200), RidgeProbe()), X, np.abs(X[:, 0]), groups, scoring="r2")
    >>> list(scores.columns), bool(scores.score.min() > 0.7)
    (['fold', 'n_training', 'n_held_out', 'score'], True)
    """
    rows, targets = np.asarray(X), np.asarray(Y)
    known = np.ones(len(rows), np.bool_) if mask is None else np.asarray(mask)
    if known.shape != (len(rows),) or known.dtype != np.bool_:
        raise ValueError(f"mask must be boolean, one entry per row: expected shape ({len(rows)},), got {known.dtype} of {known.shape}")
    parts = check_folds(group_folds(groups) if folds is None else folds, groups, len(rows))
    rows, targets, labels, parts = rows[known], targets[known], np.asarray(groups)[known], parts[known]
    named = scoring if isinstance(scoring, Mapping) else {"score": scoring}
    scorers = {name: check_scoring(estimator, score) for name, score in named.items()}
    table = []
    for fold, fitted in enumerate(_fit_each(estimator, rows, targets, parts, labels, None)):
        held = parts == fold
        scores = {name: float(scorer(fitted, rows[held], targets[held])) for name, scorer in scorers.items()}
        table.append({"fold": fold, "n_training": int((~held).sum()), "n_held_out": int(held.sum()), **scores})
    return pd.DataFrame(table)


def _fit_each(
    estimator: Any, X: NDArray[Any], Y: NDArray[Any], folds: Integers, groups: ArrayLike, mask: ArrayLike | None
) -> Sequence[Predictor]:
    """Return one fitted estimator per fold."""
    if isinstance(estimator, FoldFitter):
        return estimator.fit_folds(X, Y, folds, groups=groups, mask=mask)
    if mask is not None:
        raise ValueError(f"{type(estimator).__name__} takes no mask; leave out the rows without labels, or use a probe of this package")
    labels, by_name = np.asarray(groups), _groups_argument(estimator)
    training_sets = [np.flatnonzero(folds != fold) for fold in range(int(folds.max()) + 1)]
    fitted: list[Predictor] = [
        clone(estimator).fit(X[rows], Y[rows], **({} if by_name is None else {by_name: labels[rows]})) for rows in training_sets
    ]
    return fitted


def _groups_argument(estimator: Any) -> str | None:
    """Return the keyword by which an estimator's `fit` takes groups: its own, or that of a pipeline's last step; None if neither does."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return f"{name}__groups" if has_fit_parameter(last, "groups") else None
    return "groups" if has_fit_parameter(estimator, "groups") else None


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
