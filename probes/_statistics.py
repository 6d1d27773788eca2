"""Streamed sufficient statistics: everything a least-squares probe will ever need to know about its rows.

For each fold the count, the sums, X'X, X'Y and Y'Y (per target), around one shift: products of blocks of rows in float64 or float32,
summed in float64. Folds add up to any training set, and a held-out quadratic loss follows from the held-out fold's statistics, so the
rows are read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from worldprobe.probes._validation import Booleans, Floats, Integers

BLOCK_ENTRIES = 2**21
"""Entries of X that are multiplied at a time (16 MiB in float64)."""

CONSTANT_TOLERANCE = 64 * np.finfo(np.float64).eps
"""A column whose range is below this share of its magnitude varies by rounding only."""


@dataclass(frozen=True, eq=False)
class FeatureSums:
    """What a set of rows says about the features alone."""

    n: int
    x: Floats
    xx: Floats
    limits: Floats
    """Lowest and highest value of each feature (2, n_features)."""

    @classmethod
    def of(cls, X: NDArray[Any]) -> Self:
        """Sum over the rows of X (n, n_features), with products in its own precision."""
        return cls(len(X), X.sum(axis=0, dtype=np.float64), (X.T @ X).astype(np.float64, copy=False), _limits(X))

    def __add__(self, other: FeatureSums) -> FeatureSums:
        """Return the sums over both sets of rows."""
        return FeatureSums(self.n + other.n, self.x + other.x, self.xx + other.xx, _hull(self.limits, other.limits))


@dataclass(frozen=True, eq=False)
class TargetSums:
    """What a set of rows says about the targets and their products with the features."""

    y: Floats
    xy: Floats
    yy: Floats
    """Sum of squares of each target (n_targets,)."""
    limits: Floats

    @classmethod
    def of(cls, X: NDArray[Any], Y: Floats) -> Self:
        """Sum over the rows of X (n, n_features) and Y (n, n_targets), with products in the precision of X."""
        xy = (X.T @ Y.astype(X.dtype, copy=False)).astype(np.float64, copy=False)
        return cls(Y.sum(axis=0), xy, np.einsum("nt,nt->t", Y, Y), _limits(Y))

    def __add__(self, other: TargetSums) -> TargetSums:
        """Return the sums over both sets of rows."""
        return TargetSums(self.y + other.y, self.xy + other.xy, self.yy + other.yy, _hull(self.limits, other.limits))


@dataclass(frozen=True, eq=False)
class Moments:
    """All sums over a set of rows, for targets that share their labelled rows. Sets of rows add up with `+`.

    Columns are summed relative to `shift` (features) and `target_shift`, so that offsets cost no precision.
    """

    shift: Floats
    target_shift: Floats
    features: FeatureSums
    targets: TargetSums

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows."""
        return Moments(self.shift, self.target_shift, self.features + other.features, self.targets + other.targets)

    @property
    def n(self) -> int:
        """Number of labelled rows."""
        return self.features.n

    @property
    def x_mean(self) -> Floats:
        """Mean of each feature, relative to `shift`."""
        return self.features.x / self.n

    @property
    def y_mean(self) -> Floats:
        """Mean of each target, relative to `target_shift`."""
        return self.targets.y / self.n

    def about(self, x_mean: Floats, y_mean: Floats) -> tuple[Floats, Floats, Floats]:
        """Return X'X, X'Y and the targets' sums of squares around the given means (relative to the shifts)."""
        x, y = self.features.x, self.targets.y
        xx = self.features.xx - np.outer(x, x_mean) - np.outer(x_mean, x - self.n * x_mean)
        xy = self.targets.xy - np.outer(x, y_mean) - np.outer(x_mean, y - self.n * y_mean)
        yy = self.targets.yy - (2 * y - self.n * y_mean) * y_mean
        return xx, xy, yy

    @property
    def constant_features(self) -> Booleans:
        """Which features never change, but by rounding, within these rows."""
        return _is_constant(self.features.limits, self.shift)

    @property
    def constant_targets(self) -> Booleans:
        """Which targets never change, but by rounding, within these rows."""
        return _is_constant(self.targets.limits, self.target_shift)


def total(moments: Sequence[Moments]) -> Moments:
    """Return the moments of all the sets of rows together."""
    return reduce(add, moments)


def shared_masks(mask: Booleans) -> Integers:
    """Number the distinct columns of a mask (n_samples, n_targets); targets of one number share their labelled rows."""
    if mask.strides[1] == 0:
        return np.zeros(mask.shape[1], dtype=np.int64)
    columns = np.packbits(mask, axis=0).T
    numbers: Integers = np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return numbers


class MomentAccumulator:
    """Streams rows, batch by batch, into the moments of every fold.

    Parameters
    ----------
    n_folds : int
        Number of folds; the rows of each are summed apart.
    sharing : ndarray of int64, shape (n_targets,)
        Targets of equal number (0, 1, ...) share one mask, and so one X'X: see `shared_masks`.
    precision : {"float64", "float32"}
        Of the products of a block of rows; sums over blocks are taken in float64.
    """

    def __init__(self, n_folds: int, sharing: Integers, precision: str = "float64") -> None:
        self.n_folds, self.precision = n_folds, np.dtype(precision)
        self.targets = [np.flatnonzero(sharing == number) for number in range(int(sharing.max()) + 1)]
        self._moments: list[list[Moments]] = []

    def update(self, X: NDArray[Any], Y: Floats, folds: Integers, mask: Booleans) -> Self:
        """Add rows: X (n, n_features), Y (n, n_targets), the fold of each row (n,), which labels exist (n, n_targets)."""
        size = max(1, BLOCK_ENTRIES // X.shape[1])
        if not self._moments:
            self._begin(X[:size], np.where(mask[:size], Y[:size], 0.0))
        shift = self._moments[0][0].shift
        for fold in np.unique(folds):
            rows = np.flatnonzero(folds == fold)
            for block in np.split(rows, range(size, len(rows), size)):
                self._add_fold(int(fold), self._shifted(X, block, shift), Y[block], mask[block])
        return self

    def shares(self) -> Iterator[tuple[Integers, list[Moments]]]:
        """Yield, for each mask, the targets that have it and their moments in each fold."""
        yield from zip(self.targets, self._moments, strict=True)

    def _shifted(self, X: NDArray[Any], rows: Integers, shift: Floats) -> NDArray[Any]:
        """Return X[rows] - shift in the precision of the products, in memory that the next call uses again."""
        block: NDArray[Any] = self._buffer[: len(rows)]
        if X.dtype == block.dtype:
            np.take(X, rows, axis=0, out=block, mode="clip")
            block -= shift.astype(block.dtype)
        else:
            np.subtract(X[rows], shift, out=block, casting="same_kind")
        return block

    def _begin(self, X: NDArray[Any], Y: Floats) -> None:
        """Take the means of the first rows for the shifts."""
        shift, target_shift = X.mean(axis=0, dtype=np.float64), Y.mean(axis=0)
        if self.precision != np.float64:
            shift = shift.astype(self.precision).astype(np.float64)
        self._buffer = np.empty((max(1, BLOCK_ENTRIES // X.shape[1]), X.shape[1]), self.precision)
        self._moments = [[_no_rows(shift, target_shift[targets])] * self.n_folds for targets in self.targets]

    def _add_fold(self, fold: int, X: NDArray[Any], Y: Floats, mask: Booleans) -> None:
        """Add rows of one fold. Masks that lie inside one another (of several horizons) cost one pass over X together."""
        known = np.zeros(len(X), dtype=np.bool_)
        features = FeatureSums.of(X[known])
        by_size = sorted(zip(self.targets, self._moments, strict=True), key=lambda share: int(mask[:, share[0][0]].sum()))
        for targets, moments in by_size:
            labelled = mask[:, targets[0]]
            if np.any(known & ~labelled):
                known, features = np.zeros_like(known), FeatureSums.of(X[:0])
            features += FeatureSums.of(_where(labelled & ~known, X))
            known = labelled
            old = moments[fold]
            here = Y if len(targets) == Y.shape[1] else Y[:, targets]
            new = TargetSums.of(_where(labelled, X), _where(labelled, here) - old.target_shift)
            moments[fold] = Moments(old.shift, old.target_shift, old.features + features, old.targets + new)


def _where(rows: Booleans, values: NDArray[Any]) -> NDArray[Any]:
    """Return the chosen rows, the array itself where that is all of them."""
    return values if rows.all() else values[rows]


def _no_rows(shift: Floats, target_shift: Floats) -> Moments:
    """Return the moments of the empty set of rows."""
    X, Y = np.empty((0, len(shift))), np.empty((0, len(target_shift)))
    return Moments(shift, target_shift, FeatureSums.of(X), TargetSums.of(X, Y))


def _limits(values: Floats) -> Floats:
    """Return the lowest and highest value of each column (2, n_columns)."""
    return np.stack([values.min(axis=0, initial=np.inf), values.max(axis=0, initial=-np.inf)])


def _hull(one: Floats, other: Floats) -> Floats:
    """Return the limits that cover both."""
    return np.stack([np.minimum(one[0], other[0]), np.maximum(one[1], other[1])])


def _is_constant(limits: Floats, shift: Floats) -> Booleans:
    """Whether each column's range is nothing but rounding; limits are relative to the shift."""
    constant: Booleans = limits[1] - limits[0] <= CONSTANT_TOLERANCE * (np.abs(limits).max(axis=0) + np.abs(shift))
    return constant
