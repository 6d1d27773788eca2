"""What is decoded: every factor of a world as columns of one label matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldprobe.worlds import Factor

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Labels:
    """The layout of a label matrix: one block of columns per factor, never pooled across factors.

    A categorical factor is its one-hot, so that the squared error of a prediction is its Brier loss; a continuous factor is
    divided by its fixed world scale.

    Examples
    --------
    >>> from worldprobe.worlds import Factor
    >>> labels = Labels((Factor("goal", "categorical", 2), Factor("walk", "continuous", 1, scale=2.0)))
    >>> labels.encode({"goal": np.array([1, 0]), "walk": np.array([[4.0], [2.0]])})
    array([[0., 1., 2.],
           [1., 0., 1.]], dtype=float32)
    """

    factors: tuple[Factor, ...]

    @property
    def width(self) -> int:
        """Number of columns of the label matrix."""
        return sum(factor.size for factor in self.factors)

    @property
    def columns(self) -> dict[str, slice]:
        """The columns of each factor."""
        ends = np.cumsum([factor.size for factor in self.factors])
        return {factor.name: slice(int(end) - factor.size, int(end)) for factor, end in zip(self.factors, ends, strict=True)}

    def encode(self, values: Mapping[str, NDArray[np.generic]]) -> Array:
        """Return factor values (n,) or (n, size) as labels (n, width)."""
        return np.concatenate([self._encode_factor(factor, np.asarray(values[factor.name])) for factor in self.factors], axis=-1)

    def encode_expected(self, expected: Mapping[str, NDArray[np.generic]]) -> Array:
        """Return E[factor | belief], class probabilities or means (..., size), as labels (..., width)."""
        blocks = [
            np.asarray(expected[factor.name], np.float64) / (1.0 if factor.is_categorical else factor.scale) for factor in self.factors
        ]
        return np.concatenate(blocks, axis=-1).astype(np.float32)

    def _encode_factor(self, factor: Factor, values: NDArray[np.generic]) -> Array:
        if factor.is_categorical:
            return np.eye(factor.size, dtype=np.float32)[values.astype(np.int64)]
        return (values.astype(np.float64) / factor.scale).astype(np.float32)

    def losses(self, labels: Array, predictions: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
        """Return each factor's squared error per row, summed over its columns: factor -> (...,)."""
        squared = np.square(labels.astype(np.float64) - predictions)
        return {name: squared[..., columns].sum(-1) for name, columns in self.columns.items()}
