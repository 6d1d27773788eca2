"""What analysis reads of a recording: aligned arrays, and the folds that every comparison shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from worldprobe.activations import Recording, received_inputs
from worldprobe.analysis._labels import Array, Labels
from worldprobe.probes import group_folds
from worldprobe.worlds import World

VALIDATION = -1
"""The fold number of validation episodes: choices are made on them, no score is."""


@dataclass(frozen=True)
class Stream:
    """One recorded stream of episodes with its labels, ceilings and folds; n rows, one per step.

    Train and test episodes share `n_folds` cross-fitting folds, so that every one of their rows is predicted by decoders that
    never saw its episode; validation episodes are in no fold and serve choices only.
    """

    world: World
    recording: Recording
    labels: Labels
    n_folds: int = 3
    seed: int = 0

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Episode number of each row, (n,)."""
        return np.asarray(self.recording.groups, np.int64)

    @cached_property
    def t(self) -> NDArray[np.int64]:
        """Step within the episode of each row, (n,)."""
        return np.asarray(self.recording["t"][:], np.int64)

    @cached_property
    def folds(self) -> NDArray[np.int64]:
        """Fold of each row, (n,): 0 .. n_folds - 1, or `VALIDATION`."""
        validation = np.zeros(len(self.groups), bool)
        validation[self.recording.split("validation")] = True
        folds = np.full(len(self.groups), VALIDATION, np.int64)
        folds[~validation] = group_folds(self.groups[~validation], self.n_folds, self.seed)
        return folds

    def clock(self, t: NDArray[np.int64]) -> Array:
        """Return steps of an episode (n,) one-hot, (n, time_limit)."""
        return np.eye(self.world.time_limit, dtype=np.float32)[t]

    @cached_property
    def received(self) -> Array:
        """What the agent received at each row: observation, previous action, previous reward if a channel; (n, input_size)."""
        return received_inputs(self.recording)

    @cached_property
    def targets(self) -> Array:
        """Labels of the present state, (n, labels.width)."""
        return self.labels.encode({factor.name: self.recording[f"factor/{factor.name}"][:] for factor in self.labels.factors})

    @cached_property
    def expected(self) -> Array | None:
        """The Bayes prediction of `targets` from the exact belief, or None where the world has no filter."""
        if "belief" not in self.world.gives:
            return None
        return self.labels.encode_expected({factor.name: self.recording[f"expected/{factor.name}"][:] for factor in self.labels.factors})

    def fit_rows(self, fold: int) -> NDArray[np.int64]:
        """Rows that the decoders of `fold` learn from: all other folds."""
        return np.flatnonzero((self.folds != fold) & (self.folds != VALIDATION))

    @cached_property
    def scored(self) -> NDArray[np.int64]:
        """Rows that scores are summed over: every row that is in a fold."""
        return np.flatnonzero(self.folds != VALIDATION)

    @cached_property
    def episodes(self) -> NDArray[np.int64]:
        """Episodes with at least one scored row, ascending; the clusters of every interval."""
        return np.unique(self.groups[self.scored])

    def episode_sums(self, values: NDArray[np.float64], rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Sum `values`, one per scored row (or per row of `rows`), over each of `episodes`."""
        groups = self.groups[self.scored if rows is None else rows]
        sums = np.bincount(np.searchsorted(self.episodes, groups), weights=values, minlength=len(self.episodes))
        return sums.astype(np.float64)

    def total(self) -> dict[str, float]:
        """Total variation of each factor over the scored rows: sum of squared deviations from the mean label."""
        targets = self.targets[self.scored].astype(np.float64)
        squared = np.square(targets - targets.mean(0))
        return {name: float(squared[:, columns].sum()) for name, columns in self.labels.columns.items()}
