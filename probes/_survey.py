"""Labelled rows in blocks of one fold, and what one pass over them says before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worldprobe.probes._moments import CONSTANT_TOLERANCE
from worldprobe.probes._validation import Booleans, Floats, Integers

BLOCK_ROWS = 2048
"""Rows that are worked on at a time: few enough for the cache, enough for a matrix product."""

POOL_ROWS = 2**14
"""Rows that are kept as a sample."""


@dataclass(frozen=True, eq=False)
class LabelledBlock:
    """Rows of one fold."""

    X: NDArray[Any]
    codes: Integers
    """Class codes (n, n_heads)."""
    mask: Booleans
    """Which labels exist (n, n_heads)."""
    fold: int


class LabelledRows(Protocol):
    """Rows that can be gone over again and again."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""

    @property
    def n_folds(self) -> int:
        """Number of folds."""

    def __iter__(self) -> Iterator[LabelledBlock]:
        """Yield all rows, in blocks of one fold."""


def fold_blocks(X: NDArray[Any], codes: Integers, mask: Booleans, folds: Integers) -> Iterator[LabelledBlock]:
    """Yield rows in blocks of one fold, the folds in order."""
    order = np.argsort(folds, kind="stable")
    ends = np.cumsum(np.bincount(folds))
    for fold, end in enumerate(ends):
        start = ends[fold - 1] if fold else 0
        for first in range(int(start), int(end), BLOCK_ROWS):
            rows = order[first : min(first + BLOCK_ROWS, int(end))]
            yield LabelledBlock(X[rows], codes[rows], mask[rows], fold)


@dataclass(frozen=True, eq=False)
class ArrayRows:
    """Rows in memory."""

    X: NDArray[Any]
    codes: Integers
    mask: Booleans
    folds: Integers
    n_folds: int

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.X)

    def __iter__(self) -> Iterator[LabelledBlock]:
        """Yield all rows, in blocks of one fold."""
        return fold_blocks(self.X, self.codes, self.mask, self.folds)


@dataclass(eq=False)
class Survey:
    """Counts and sums over rows, by fold and head; features are taken relative to `shift`."""

    shift: Floats
    gram: Floats
    """X'X of all rows (n_features, n_features)."""
    n: int
    x: Floats
    """Sum of all rows (n_features,)."""
    counts: Integers
    """Labelled rows of each class (n_folds, n_heads, n_classes)."""
    sums: Floats
    """Sums of the labelled rows (n_folds, n_heads, n_features)."""
    squares: Floats
    """Sums of their squares."""
    pool: list[LabelledBlock]
    """Evenly spaced rows."""

    @classmethod
    def of(cls, rows: LabelledRows, n_classes: Sequence[int]) -> Survey:
        """Go over the rows once."""
        survey: Survey | None = None
        spacing, seen = max(1, rows.n_rows // POOL_ROWS), 0
        for block in rows:
            if survey is None:
                survey = cls._empty(block.X.mean(axis=0, dtype=np.float64), rows.n_folds, n_classes)
            survey._add(block)
            chosen = np.arange(-seen % spacing, len(block.X), spacing)
            survey.pool.append(LabelledBlock(block.X[chosen], block.codes[chosen], block.mask[chosen], block.fold))
            seen += len(block.X)
        if survey is None:
            raise ValueError("there are no rows to fit on")
        return survey

    @classmethod
    def _empty(cls, shift: Floats, n_folds: int, n_classes: Sequence[int]) -> Survey:
        d, heads = len(shift), len(n_classes)
        counts = np.zeros((n_folds, heads, max(n_classes)), dtype=np.int64)
        return cls(shift, np.zeros((d, d)), 0, np.zeros(d), counts, np.zeros((n_folds, heads, d)), np.zeros((n_folds, heads, d)), [])

    def _add(self, block: LabelledBlock) -> None:
        """Add a block."""
        X, known = block.X - self.shift, block.mask.astype(np.float64)
        self.gram += X.T @ X
        self.n += len(X)
        self.x += X.sum(axis=0)
        self.sums[block.fold] += known.T @ X
        self.squares[block.fold] += known.T @ X**2
        for head, counts in enumerate(self.counts[block.fold]):
            counts += np.bincount(block.codes[block.mask[:, head], head], minlength=len(counts))

    def counts_without(self, without: Iterable[int]) -> Integers:
        """Return the training rows of each class (n_heads, n_classes)."""
        counts: Integers = self._without(self.counts, without)
        return counts

    def moments_without(self, without: Iterable[int]) -> tuple[Floats, Floats]:
        """Return mean (relative to the shift) and standard deviation of each head's training rows (n_heads, n_features).

        A feature that is constant there has deviation zero.
        """
        n = np.maximum(self.counts_without(without).sum(axis=1, keepdims=True), 1)
        mean, square = self._without(self.sums, without) / n, self._without(self.squares, without) / n
        variance = square - mean**2
        rounding = CONSTANT_TOLERANCE * (square + CONSTANT_TOLERANCE * self.shift**2)
        return mean, np.sqrt(np.where(variance > rounding, variance, 0.0))

    def _without(self, by_fold: NDArray[Any], without: Iterable[int]) -> NDArray[Any]:
        """Sum over all folds but some."""
        total: NDArray[Any] = np.delete(by_fold, sorted(without), axis=0).sum(axis=0)
        return total
