"""Is a representation better than others of its kind, which were never trained? A rank test among exchangeable twins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from worldprobe.probes._intervals import Estimate, sum_interval
from worldprobe.probes._validation import check_finite


@dataclass(frozen=True)
class TwinComparison:
    """Where a loss stands among those of twins."""

    n_twins: int
    n_better: int
    """Twins whose loss is no higher."""
    p_value: float
    """(1 + n_better) / (1 + n_twins), exact where all are exchangeable."""
    margin: float
    """Least loss of a twin minus the loss."""
    own: Estimate | None
    """Loss of the own initialisation minus the loss, with its one-sided lower bound; None where none was given."""

    @property
    def below(self) -> bool:
        """The decision: below every twin and, where it was given, the lower bound of the gain on the own initialisation above zero."""
        return self.n_better == 0 and (self.own is None or bool(self.own.lower > 0))


def compare_twins(
    losses: ArrayLike, twin_losses: ArrayLike, own_initialisation: ArrayLike | None = None, level: float = 0.95
) -> TwinComparison:
    r"""Test whether a loss lies below those of all twins.

    If the representation is one of n + 1 exchangeable ones, it has the least loss with probability 1 / (n + 1): 19 twins make a test at
    5 %. The own initialisation is no draw of its own, so it is compared in pairs, group by group.

    Parameters
    ----------
    losses : array_like, shape (n_groups,)
        Held-out loss of each group.
    twin_losses : array_like, shape (n_twins, n_groups)
        The same for fresh initialisations, or for weight-noise twins, on the same rows and folds.
    own_initialisation : array_like, shape (n_groups,), optional
        The same for the network's own initialisation.
    level : float
        Of the one-sided lower bound.

    Returns
    -------
    TwinComparison

    Raises
    ------
    ValueError
        If the shapes do not fit, or an entry is NaN.

    Examples
    --------
    >>> from worldprobe.probes import compare_twins
    >>> comparison = compare_twins([1.0, 2.0], [[2.0, 2.0], [3.0, 1.0], [1.0, 1.0]])
    >>> comparison.below, comparison.n_better, comparison.p_value
    (False, 1, 0.5)
    """
    ours, theirs = np.asarray(losses, dtype=np.float64), np.asarray(twin_losses, dtype=np.float64)
    if ours.ndim != 1 or theirs.ndim != 2 or theirs.shape[1] != len(ours) or not len(theirs):
        raise ValueError(f"losses must be (n_groups,) and twin_losses (n_twins, n_groups); got {ours.shape} and {theirs.shape}")
    check_finite(ours, "losses")
    check_finite(theirs, "twin_losses")
    totals = theirs.sum(axis=1)
    n_better = int(np.sum(totals <= ours.sum()))
    own = None if own_initialisation is None else sum_interval(np.asarray(own_initialisation) - ours, level, "greater")
    return TwinComparison(len(theirs), n_better, (1 + n_better) / (1 + len(theirs)), float(totals.min() - ours.sum()), own)
