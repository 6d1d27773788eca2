"""Sufficient statistics: everything a least-squares probe will ever need to know about a set of rows.

The count, the sums, X'X, X'Y and Y'Y (per target), around one shift. Sets of rows add up, and a held-out quadratic loss follows from the
held-out rows' sums, so the rows themselves are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from worldprobe.probes._validation import Booleans, Floats, Integers

CONSTANT_TOLERANCE = 64 * np.finfo(np.float64).eps
"""A column whose range is below this share of its magnitude varies by rounding only."""

GLANCE = 64
"""Rows in which almost every column that varies is seen to do so."""


@dataclass(frozen=True, eq=False)
class FeatureSums:
    """What a set of rows says about the features alone."""

    n: int
    x: Floats
    xx: Floats
    limits: Floats
    """Two values of each feature (2, n_features), a lower and a higher one, whose distance says whether it varies; see `find_limits`."""

    @classmethod
    def of(cls, X: NDArray[Any], shift: Floats) -> Self:
        """Sum over the rows of X (n, n_features), given minus `shift`, with products in its own precision."""
        return cls(len(X), X.sum(axis=0, dtype=np.float64), (X.T @ X).astype(np.float64, copy=False), find_limits(X, shift))

    def __add__(self, other: FeatureSums) -> FeatureSums:
        """Return the sums over both sets of rows."""
        return FeatureSums(self.n + other.n, self.x + other.x, self.xx + other.xx, _hull(self.limits, other.limits))

    def subset(self, features: Integers) -> FeatureSums:
        """Return the sums of some features."""
        return FeatureSums(self.n, self.x[features], self.xx[np.ix_(features, features)], self.limits[:, features])


@dataclass(frozen=True, eq=False)
class TargetSums:
    """What a set of rows says about the targets and their products with the features."""

    y: Floats
    xy: Floats
    yy: Floats
    """Sum of squares of each target (n_targets,)."""
    limits: Floats

    @classmethod
    def of(cls, X: NDArray[Any], Y: Floats, shift: Floats) -> Self:
        """Sum over the rows of X (n, n_features) and Y (n, n_targets), given minus `shift`, with products in the precision of X."""
        xy = (X.T @ Y.astype(X.dtype, copy=False)).astype(np.float64, copy=False)
        return cls(Y.sum(axis=0), xy, np.einsum("nt,nt->t", Y, Y), find_limits(Y, shift))

    def __add__(self, other: TargetSums) -> TargetSums:
        """Return the sums over both sets of rows."""
        return TargetSums(self.y + other.y, self.xy + other.xy, self.yy + other.yy, _hull(self.limits, other.limits))

    def subset(self, features: Integers, targets: Integers) -> TargetSums:
        """Return the sums of some targets, and of their products with some features."""
        return TargetSums(self.y[targets], self.xy[np.ix_(features, targets)], self.yy[targets], self.limits[:, targets])


@dataclass(frozen=True, eq=False)
class Moments:
    """All sums over a set of rows, for targets that share their labelled rows. Sets of rows add up with `+`.

    Columns are summed relative to `shift` (features) and `target_shift`, so that offsets cost no precision.
    """

    shift: Floats
    target_shift: Floats
    features: FeatureSums
    targets: TargetSums

    @classmethod
    def none(cls, shift: Floats, target_shift: Floats) -> Self:
        """Return the moments of the empty set of rows."""
        X, Y = np.empty((0, len(shift))), np.empty((0, len(target_shift)))
        return cls(shift, target_shift, FeatureSums.of(X, shift), TargetSums.of(X, Y, target_shift))

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows."""
        return Moments(self.shift, self.target_shift, self.features + other.features, self.targets + other.targets)

    def subset(self, features: Integers, targets: Integers) -> Moments:
        """Return the moments of some features and some targets, as if there had never been others."""
        part = self.of_targets(targets)
        kept = part.targets.subset(features, np.arange(len(targets)))
        return Moments(self.shift[features], part.target_shift, self.features.subset(features), kept)

    def of_targets(self, targets: Integers) -> Moments:
        """Return the moments of all features and some targets."""
        part = self.targets.subset(np.arange(len(self.shift)), targets)
        return Moments(self.shift, self.target_shift[targets], self.features, part)

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
        return _is_constant(self.features.limits, self.shift, CONSTANT_TOLERANCE)

    @property
    def constant_targets(self) -> Booleans:
        """Which targets never change, but by rounding, within these rows."""
        return _is_constant(self.targets.limits, self.target_shift, CONSTANT_TOLERANCE)


def total(moments: Sequence[Moments]) -> Moments:
    """Return the moments of all the sets of rows together."""
    return reduce(add, moments)


def find_limits(values: NDArray[Any], shift: Floats) -> Floats:
    """Return a low and a high value of each column (2, n_columns); values are relative to `shift`.

    They are the lowest and the highest, except where the first few rows already differ by far more than rounding: those columns vary,
    whatever the other rows hold, and are not searched any further.
    """
    limits = _extremes(values[:GLANCE])
    open_ = np.flatnonzero(_is_constant(limits, shift, 4 * CONSTANT_TOLERANCE))
    if len(open_) and len(values) > GLANCE:
        limits[:, open_] = _extremes(values[:, open_])
    return limits


def _extremes(values: NDArray[Any]) -> Floats:
    """Return the lowest and highest value of each column (2, n_columns)."""
    return np.stack([values.min(axis=0, initial=np.inf), values.max(axis=0, initial=-np.inf)]).astype(np.float64, copy=False)


def _hull(one: Floats, other: Floats) -> Floats:
    """Return the limits that cover both."""
    return np.stack([np.minimum(one[0], other[0]), np.maximum(one[1], other[1])])


def _is_constant(limits: Floats, shift: Floats, tolerance: float) -> Booleans:
    """Whether each column's range is nothing but rounding; limits are relative to the shift."""
    constant: Booleans = limits[1] - limits[0] <= tolerance * (np.abs(limits).max(axis=0) + np.abs(shift))
    return constant
