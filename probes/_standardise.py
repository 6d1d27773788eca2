"""Standardising features on the rows a probe is fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from worldprobe.probes._moments import CONSTANT_TOLERANCE
from worldprobe.probes._validation import Floats


@dataclass(frozen=True, eq=False)
class Standardiser:
    """z = (x - mean) * inverse_scale; features that were constant on the fitted rows become zero."""

    mean: Floats
    inverse_scale: Floats

    @classmethod
    def of(cls, X: NDArray[Any]) -> Self:
        """Take mean and standard deviation of the rows of X (n_samples, n_features)."""
        mean, scale = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
        low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
        varies = (high - low > CONSTANT_TOLERANCE * np.maximum(np.abs(low), np.abs(high))) & (scale > 0)
        return cls(mean, np.divide(1.0, scale, out=np.zeros_like(scale), where=varies))

    def apply(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return standardised features in the precision of X."""
        z: NDArray[Any] = X - self.mean.astype(X.dtype)
        z *= self.inverse_scale.astype(X.dtype)
        return z
