"""Rows that are said to be independent, and do not look so."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldprobe.probes._identical_rows import count_repeats

LEAST_ROWS = 50
"""Rows below which nothing is said."""

REPEATED_SHARE = 0.05
"""Share of repeated rows that is no accident of a few classes."""

NEIGHBOUR_CORRELATION = 0.5
"""Correlation of consecutive rows that no shuffled sample has."""


class UngroupedRowsWarning(UserWarning):
    """A probe was fitted without `groups` on rows that repeat or resemble their neighbours, as the rows of an episode do."""


def warn_of_ungrouped_rows(estimator: object, X: NDArray[Any]) -> None:
    """Warn, by the estimator's name, where rows without groups repeat or follow one another like steps of an episode.

    The test is of up to 16 columns that vary: the mean correlation of consecutive rows, and the share of rows that equal an earlier one.
    """
    if len(X) < LEAST_ROWS:
        return
    resemblance, share = _neighbour_correlation(X), count_repeats(X) / len(X)
    if resemblance < NEIGHBOUR_CORRELATION and share < REPEATED_SHARE:
        return
    seen = f"resemble the row before them (correlation {resemblance:.2f})" if resemblance >= NEIGHBOUR_CORRELATION else ""
    seen += " and " if seen and share >= REPEATED_SHARE else ""
    seen += f"equal an earlier row ({share:.0%} of them)" if share >= REPEATED_SHARE else ""
    warnings.warn(
        f"{type(estimator).__name__}.fit was given no groups, but rows {seen}: if they come from episodes, pass groups=episodes (in "
        "cross-validation: `cross_fit` or `cross_validate`), or the penalty is chosen on rows that were all but seen; if each row is "
        "independent, groups=np.arange(n_samples) says so",
        UngroupedRowsWarning,
        stacklevel=4,
    )


def _neighbour_correlation(X: NDArray[Any]) -> float:
    """Return the mean over columns of the correlation of consecutive rows; 0 where no column varies."""
    some = X[:, :: max(1, X.shape[1] // 16)][:, :16].astype(np.float64)
    centred = some - some.mean(axis=0)
    spread = np.square(centred).sum(axis=0)
    varies = spread > 1e-12 * np.square(some).sum(axis=0)
    if not varies.any():
        return 0.0
    return float(((centred[1:] * centred[:-1]).sum(axis=0)[varies] / spread[varies]).mean())
