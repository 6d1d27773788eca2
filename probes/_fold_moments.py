"""Rows read once, into the sums of every fold: what any number of penalties, targets, features and erasers are then computed from."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldprobe.probes._moments import FeatureSums, Moments, TargetSums, total
from worldprobe.probes._splits import StreamedFolds
from worldprobe.probes._threads import map_in_threads
from worldprobe.probes._validation import Booleans, Floats, Integers, check_float_targets, check_mask, check_rows, listing

BLOCK_ENTRIES = 2**21
"""Entries of X that are multiplied at a time (16 MiB in float64)."""

Batch = tuple[ArrayLike, ...]
"""X, Y, groups and, where some labels are missing, the mask."""


@dataclass(frozen=True, eq=False)
class MomentShare:
    """The moments of those targets that share their labelled rows."""

    targets: Integers
    """Their numbers (n_share,)."""
    folds: Sequence[Moments]
    """One entry per fold."""


@dataclass(frozen=True, eq=False)
class FoldMoments:
    """All that least squares needs to know about rows in folds: counts, sums, X'X, X'Y and Y'Y of each fold.

    Made by `collect_moments`; used by `RidgeProbe.fit_moments` and `EraserFitter.from_moments`, any number of times.
    """

    shares: Sequence[MomentShare]
    """Targets whose labelled rows are the same have one entry together."""
    n_dimensions: int
    """Axes of Y: 1 or 2."""
    precision: str
    """Of the products of blocks of rows."""

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.shares[0].folds)

    @property
    def n_features(self) -> int:
        """Columns of X."""
        return len(self.shares[0].folds[0].shift)

    @property
    def n_targets(self) -> int:
        """Columns of Y."""
        return sum(len(share.targets) for share in self.shares)

    def subset(self, features: ArrayLike | None = None, targets: ArrayLike | None = None) -> FoldMoments:
        """Return the moments of some columns, as if the others had never been there.

        Parameters
        ----------
        features, targets : array_like of int or bool, optional
            Columns of X and of Y; all by default.

        Raises
        ------
        ValueError
            If a selection is empty, names a column twice or one that does not exist.
        """
        kept = _selected(features, self.n_features, "features")
        wanted = _selected(targets, self.n_targets, "targets")
        place = np.full(self.n_targets, -1)
        place[wanted] = np.arange(len(wanted))
        shares = []
        for share in self.shares:
            inside = np.flatnonzero(place[share.targets] >= 0)
            if len(inside):
                folds = [moments.subset(kept, inside) for moments in share.folds]
                shares.append(MomentShare(place[share.targets[inside]], folds))
        return FoldMoments(shares, self.n_dimensions if targets is None else 2, self.precision)

    def __repr__(self) -> str:
        """Say how much is in it."""
        rows = [sum(moments.n for moments in share.folds) for share in self.shares]
        counts = f"{rows[0]}" if len(set(rows)) == 1 else f"{min(rows)} to {max(rows)}"
        return (
            f"FoldMoments({counts} rows in {self.n_folds} folds, {self.n_features} features, {self.n_targets} targets, "
            f"{self.precision} products)"
        )


def collect_moments(batches: Iterable[Batch], n_folds: int = 5, precision: Literal["float64", "float32"] = "float64") -> FoldMoments:
    """Read rows that come in batches, of which one at a time is held in memory, into the moments of every fold.

    Each group goes to the fold that has the fewest rows when it first arrives.

    Parameters
    ----------
    batches : iterable of (X, Y, groups) or (X, Y, groups, mask)
        X (n_samples, n_features), Y (n_samples,) or (n_samples, n_targets), the group (episode) of each row, and which labels exist, a
        boolean array shaped as Y or (n_samples,). A group may go on in the next batch.
    n_folds : int
    precision : {"float64", "float32"}
        Of the products of blocks of rows, which are summed in float64.

    Raises
    ------
    ValueError
        If there are no batches, they differ in shape, an entry is NaN, or a target has no labels at all.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.probes import RidgeProbe, collect_moments
    >>> X = np.random.default_rng(0).normal(size=(600, 4))
    >>> moments = collect_moments([(X, X[:, :2] ** 3, np.arange(600) // 10)])
    >>> moments
    FoldMoments(600 rows in 5 folds, 4 features, 2 targets, float64 products)
    >>> RidgeProbe().fit_moments(moments).cv_scores_.max(axis=0).round(1)
    array([0.6, 0.6])
    >>> RidgeProbe().fit_moments(moments.subset(features=[0])).cv_scores_.max(axis=0).round(1)
    array([0.6, 0. ])
    """
    deal, accumulator, shape = StreamedFolds(n_folds), MomentAccumulator(n_folds, precision), None
    for X, Y, groups, *masks in batches:
        rows = check_rows(X)
        targets = check_float_targets(rows, Y)
        shape = targets.shape[1:] if shape is None else shape
        if targets.shape[1:] != shape:
            raise ValueError(f"Y must have the same columns in every batch: expected (n_samples, *{shape}), got {targets.shape}")
        columns = targets.reshape(len(rows), -1)
        labelled = check_mask(masks[0], columns.shape) if masks else None
        accumulator.update(rows, columns, deal.deal(groups, len(rows)), labelled)
    if shape is None:
        raise ValueError("there are no batches: expected one (X, Y, groups) or more, got none")
    return accumulator.result(1 + len(shape))


class MomentAccumulator:
    """Adds rows, batch by batch, to the moments of every fold.

    Targets share their sums of X'X for as long as they have had the same labelled rows.

    Parameters
    ----------
    n_folds : int
        Number of folds; the rows of each are summed apart.
    precision : {"float64", "float32"}
        Of the products of a block of rows; sums over blocks are taken in float64.
    """

    def __init__(self, n_folds: int, precision: str = "float64") -> None:
        if precision not in ("float64", "float32"):
            raise ValueError(f"precision must be 'float64' or 'float32'; got {precision!r}")
        self.n_folds, self.precision = n_folds, np.dtype(precision)
        self.shares: list[tuple[Integers, list[Moments]]] = []
        """Targets that have shared all labelled rows, and their moments in each fold."""

    @classmethod
    def of_total(cls, moments: FoldMoments) -> Self:
        """Return an accumulator that goes on from the rows of all folds together, as one fold."""
        accumulator = cls(1, moments.precision)
        accumulator.shares = [(share.targets, [total(share.folds)]) for share in moments.shares]
        return accumulator

    def update(self, X: NDArray[Any], Y: NDArray[Any], folds: Integers, mask: Booleans | None = None) -> Self:
        """Add rows: X (n, n_features), Y (n, n_targets), the fold of each row (n,), which labels exist (n, n_targets)."""
        size = max(1, BLOCK_ENTRIES // X.shape[1])
        if not self.shares:
            self._begin(X[:size], Y[:size] if mask is None else np.where(mask[:size], Y[:size], 0.0))
        shift = self.shares[0][1][0].shift
        if X.shape[1] != len(shift):
            raise ValueError(f"X must have the same columns in every batch: expected {len(shift)}, got {X.shape[1]}")
        if mask is not None:
            self.shares = [part for share in self.shares for part in _split(*share, mask)]
        rows_of = {int(fold): np.flatnonzero(folds == fold) for fold in np.unique(folds)}
        blocks = [(fold, block) for fold, rows in rows_of.items() for block in np.split(rows, range(size, len(rows), size))]
        memory = threading.local()

        def sums(rows: Integers) -> list[Moments]:
            if not hasattr(memory, "block"):
                memory.block = np.empty((min(size, len(X)), len(shift)), self.precision)
            return self._sums(_shifted(X, rows, shift, memory.block), Y[rows], self._labelled(mask, rows))

        for (fold, _), new in zip(blocks, map_in_threads(sums, [block for _, block in blocks]), strict=True):
            for (_, moments), part in zip(self.shares, new, strict=True):
                moments[fold] = moments[fold] + part
        return self

    def result(self, n_dimensions: int) -> FoldMoments:
        """Return the moments of all rows so far, of a Y with so many axes; refuse a target without labels."""
        empty = [targets for targets, folds in self.shares if not any(moments.n for moments in folds)]
        if empty:
            raise ValueError(
                f"every target needs labels, but the mask leaves none for target {listing(np.concatenate(empty))}; drop those targets"
            )
        return FoldMoments([MomentShare(targets, tuple(folds)) for targets, folds in self.shares], n_dimensions, str(self.precision))

    def _begin(self, X: NDArray[Any], Y: NDArray[Any]) -> None:
        """Take the means of the first rows for the shifts."""
        shift = X.mean(axis=0, dtype=np.float64).astype(self.precision).astype(np.float64)
        target_shift = Y.mean(axis=0, dtype=np.float64)
        self.shares = [(np.arange(Y.shape[1]), [Moments.none(shift, target_shift)] * self.n_folds)]

    def _labelled(self, mask: Booleans | None, rows: Integers) -> Booleans:
        """Return which of the rows each share has labels for (n_rows, n_shares)."""
        if mask is None:
            return np.ones((len(rows), len(self.shares)), np.bool_)
        labelled: Booleans = mask[np.ix_(rows, [targets[0] for targets, _ in self.shares])]
        return labelled

    def _sums(self, X: NDArray[Any], Y: NDArray[Any], labelled: Booleans) -> list[Moments]:
        """Return each share's moments of some rows. Masks that lie inside one another (of several horizons) cost one pass over X."""
        shift, known = self.shares[0][1][0].shift, np.zeros(len(X), dtype=np.bool_)
        features, found = FeatureSums.of(X[known], shift), {}
        for number in np.argsort(labelled.sum(axis=0), kind="stable"):
            (targets, (old, *_)), here = self.shares[number], labelled[:, number]
            if np.any(known & ~here):
                known, features = np.zeros_like(known), FeatureSums.of(X[:0], shift)
            features += FeatureSums.of(_where(here & ~known, X), shift)
            known = here
            values = _where(here, Y if len(targets) == Y.shape[1] else Y[:, targets]) - old.target_shift
            found[number] = Moments(shift, old.target_shift, features, TargetSums.of(_where(here, X), values, old.target_shift))
        return [found[number] for number in range(len(self.shares))]


def _split(targets: Integers, folds: list[Moments], mask: Booleans) -> list[tuple[Integers, list[Moments]]]:
    """Part targets that shared all their labelled rows so far, and do not in a batch with this mask (n, n_targets)."""
    columns = np.packbits(mask[:, targets], axis=0).T
    numbers = np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1)
    if not numbers.any():
        return [(targets, folds)]
    members = [np.flatnonzero(numbers == number) for number in range(int(numbers.max()) + 1)]
    return [(targets[some], [moments.of_targets(some) for moments in folds]) for some in members]


def _shifted(X: NDArray[Any], rows: Integers, shift: Floats, memory: NDArray[Any]) -> NDArray[Any]:
    """Return X[rows] - shift in the precision of `memory`, and in it."""
    block: NDArray[Any] = memory[: len(rows)]
    if X.dtype == block.dtype:
        np.take(X, rows, axis=0, out=block, mode="clip")
        block -= shift.astype(block.dtype)
    else:
        np.subtract(X[rows], shift, out=block, casting="same_kind")
    return block


def _where(rows: Booleans, values: NDArray[Any]) -> NDArray[Any]:
    """Return the chosen rows, the array itself where that is all of them."""
    return values if rows.all() else values[rows]


def _selected(selection: ArrayLike | None, n_columns: int, what: str) -> Integers:
    """Return the numbers of the selected columns."""
    if selection is None:
        return np.arange(n_columns)
    given = np.asarray(selection)
    if given.dtype == np.bool_ and given.shape == (n_columns,):
        given = np.flatnonzero(given)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not len(given):
        raise ValueError(f"{what} must be one or more column numbers, or {n_columns} booleans; got {selection!r}")
    if given.min() < 0 or given.max() >= n_columns or len(np.unique(given)) < len(given):
        raise ValueError(f"{what} must be distinct numbers below {n_columns}; got {listing(given)}")
    return given.astype(np.int64)
