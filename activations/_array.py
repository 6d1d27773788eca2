"""One key of a recording as an array that is read when it is indexed."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from worldprobe.activations._episodes import Array
from worldprobe.activations._layout import along
from worldprobe.activations._shards import Shards


class RecordedArray:
    """A lazy array: `array[rows]` reads the chunks that hold `rows`, across shards, and nothing else.

    The first index may be an integer, a slice, a mask or an array of row numbers, as in numpy; more indices apply to the
    other axes. `np.asarray(array)` reads everything.
    """

    def __init__(self, shards: Shards, key: str) -> None:
        spec = shards.manifest.arrays[key]
        sizes = [entry.n_steps if along(key) == "step" else entry.n_episodes for entry in shards.manifest.shards]
        self._shards = shards
        self._bounds = np.cumsum([0, *sizes])
        self.key = key
        self.dtype = np.dtype(spec.dtype)
        self.shape: tuple[int, ...] = (int(self._bounds[-1]), *spec.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"RecordedArray({self.key!r}, shape={self.shape}, dtype={self.dtype})"

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"{self.key!r} lies in a file: it cannot become an array without a copy")
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, index: Any) -> Array:
        rows, rest = (index[0], index[1:]) if isinstance(index, tuple) and index else (index, ())
        if rows is Ellipsis or (isinstance(index, tuple) and not index):
            return cast("Array", self._span(0, len(self))[index])
        if isinstance(rows, int | np.integer):
            row = self._checked(np.array([rows]))[0]
            return cast("Array", self._span(row, row + 1)[0][rest])
        values = self._slice(rows) if isinstance(rows, slice) else self._rows(np.asarray(rows))
        return cast("Array", values[(slice(None), *rest)]) if rest else values

    def _slice(self, rows: slice) -> Array:
        start, stop, step = rows.indices(len(self))
        picked = range(start, stop, step)
        if not picked:
            return self._span(0, 0)
        low, high = min(picked[0], picked[-1]), max(picked[0], picked[-1]) + 1
        return self._span(low, high)[::step]

    def _rows(self, rows: Array) -> Array:
        """Return the rows a mask or an array of row numbers asks for, in that order."""
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask for {self.key!r} must have shape ({len(self)},); got {rows.shape}")
            rows = np.flatnonzero(rows)
        rows = self._checked(rows)
        ordered, inverse = np.unique(rows, return_inverse=True)
        return self._gather(ordered)[inverse.reshape(rows.shape)]

    def _checked(self, rows: Array) -> Array:
        """Return row numbers without negative ones."""
        if rows.size and not np.issubdtype(rows.dtype, np.integer):
            raise IndexError(f"rows of {self.key!r} must be integers, a slice or a mask; got {rows.dtype}")
        if rows.size and (rows.min() < -len(self) or rows.max() >= len(self)):
            raise IndexError(f"rows of {self.key!r} must lie in [0, {len(self)}); got {rows.min()} to {rows.max()}")
        return np.where(rows < 0, rows + len(self), rows).astype(np.int64)

    def _gather(self, rows: Array) -> Array:
        """Read ascending rows, run of neighbouring chunks by run."""
        values = np.empty((rows.size, *self.shape[1:]), self.dtype)
        edges = np.searchsorted(rows, self._bounds)
        for position in np.flatnonzero(np.diff(edges)):
            local = rows[edges[position] : edges[position + 1]] - self._bounds[position]
            chunk = local // self._shards.chunk_rows(int(position), self.key)
            runs = np.split(np.arange(local.size), np.flatnonzero(np.diff(chunk) > 1) + 1)
            for run in runs:
                low, high = int(local[run[0]]), int(local[run[-1]]) + 1
                block = self._shards.read(int(position), self.key, slice(low, high))
                values[edges[position] + run] = block[local[run] - low]
        return values

    def _span(self, low: int, high: int) -> Array:
        """Read consecutive rows."""
        values = np.empty((max(0, high - low), *self.shape[1:]), self.dtype)
        for position, (first, last) in enumerate(zip(self._bounds[:-1], self._bounds[1:], strict=True)):
            begin, end = max(low, int(first)), min(high, int(last))
            if begin < end:
                values[begin - low : end - low] = self._shards.read(position, self.key, slice(begin - int(first), end - int(first)))
        return values
