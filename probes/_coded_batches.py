"""Rows that come in batches, with the classes or the units of their labels found on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets

from worldprobe.probes._labels import Classes
from worldprobe.probes._splits import StreamedFolds
from worldprobe.probes._survey import LabelledBlock, fold_blocks
from worldprobe.probes._validation import Floats, Integers, check_features, check_real_targets, check_targets

Batches = Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]]
"""(X, Y, groups) of some rows, again and again the same."""


class CodedBatches:
    """Batches as labelled rows. They are read once here, for classes, groups and errors.

    Parameters
    ----------
    estimator : BaseEstimator
        Learns the width of X.
    batches : iterable of (X, Y, groups), or function that returns one
    n_folds : int
        Folds that groups are dealt to.
    """

    def __init__(self, estimator: BaseEstimator, batches: Batches | Callable[[], Batches], n_folds: int) -> None:
        _check_repeatable(batches)
        self._batches, self._deal = batches, StreamedFolds(n_folds)
        self.n_rows, flat, used = 0, True, 0
        found: list[NDArray[Any]] = []
        for X, labels, folds in self._read(estimator):
            flat, columns = labels.ndim == 1, labels.reshape(len(labels), -1).T
            if found and len(columns) != len(found):
                raise ValueError(f"Y must have the same columns in every batch: expected {len(found)}, got {len(columns)}")
            found = [np.union1d(*pair) for pair in zip(found, columns, strict=True)] if found else [np.unique(own) for own in columns]
            self.n_rows, used = self.n_rows + len(X), max(used, int(folds.max()) + 1)
        if not self.n_rows:
            raise ValueError("there are no batches: expected one (X, Y, groups) or more, got none")
        if used < min(2, n_folds):
            raise ValueError("choosing a penalty needs at least 2 groups, got 1; give a single penalty in `alphas`, or more groups")
        self.n_folds = used
        self.classes = Classes(found, flat)
        self.classes.check()

    def __iter__(self) -> Iterator[LabelledBlock]:
        """Yield all rows, in blocks of one fold."""
        for X, labels, folds in self._read(None):
            columns = zip(self.classes.heads, labels.reshape(len(labels), -1).T, strict=True)
            codes = np.stack([np.searchsorted(classes, own) for classes, own in columns], axis=1)
            yield from fold_blocks(X, codes, np.broadcast_to(np.True_, codes.shape), folds)

    def _read(self, estimator: BaseEstimator | None) -> Iterator[tuple[NDArray[Any], NDArray[Any], Integers]]:
        """Yield X, labels and folds of each batch; the estimator learns the width of the first, and checks the others."""
        for X, Y, groups in self._batches() if callable(self._batches) else self._batches:
            rows = np.asarray(X) if estimator is None else check_features(estimator, X, reset=not self.n_rows)
            labels = check_targets(rows, Y)
            check_classification_targets(labels)
            yield rows, labels, self._deal.deal(groups, len(rows))


class RealBatches:
    """Batches with real targets, in folds. They are read once here, for shapes and errors.

    Parameters
    ----------
    estimator : BaseEstimator
        Learns the width of X.
    batches : iterable of (X, Y, groups), or function that returns one
    n_folds : int
        Folds that groups are dealt to.
    """

    def __init__(self, estimator: BaseEstimator, batches: Batches | Callable[[], Batches], n_folds: int) -> None:
        _check_repeatable(batches)
        self._batches, self._deal = batches, StreamedFolds(n_folds)
        self.n_rows, used, shapes = 0, 0, set[tuple[int, ...]]()
        for X, Y, folds in self._read(estimator):
            shapes.add(Y.shape[1:])
            self.n_rows, used = self.n_rows + len(X), max(used, int(folds.max()) + 1)
        if len(shapes) > 1:
            raise ValueError(f"Y must have the same columns in every batch; got rows of shape {' and '.join(map(str, sorted(shapes)))}")
        if not self.n_rows:
            raise ValueError("there are no batches: expected one (X, Y, groups) or more, got none")
        self.n_folds, self.flat = used, shapes == {()}

    def __iter__(self) -> Iterator[tuple[NDArray[Any], Floats, int]]:
        """Yield X, Y (n, n_targets) and the fold, in blocks of one fold."""
        for X, Y, folds in self._read(None):
            for fold in np.unique(folds):
                yield X[folds == fold], Y.reshape(len(Y), -1)[folds == fold], int(fold)

    def _read(self, estimator: BaseEstimator | None) -> Iterator[tuple[NDArray[Any], Floats, Integers]]:
        """Yield X, Y and folds of each batch; the estimator learns the width of the first, and checks the others."""
        for X, Y, groups in self._batches() if callable(self._batches) else self._batches:
            rows = np.asarray(X) if estimator is None else check_features(estimator, X, reset=not self.n_rows)
            yield rows, check_real_targets(rows, Y), self._deal.deal(groups, len(rows))


def _check_repeatable(batches: Batches | Callable[[], Batches]) -> None:
    """Refuse batches that can be read only once."""
    if not callable(batches) and iter(batches) is batches:
        raise ValueError(
            f"this probe reads its batches several times, but a {type(batches).__name__} gives them once; "
            "give a list, or a function that returns a new iterator"
        )
