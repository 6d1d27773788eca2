"""Cross-fitted linear decoders of one source: fitted on recorded rows alone, scored on rows and on forks."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from worldprobe.activations import Forks
from worldprobe.analysis._labels import Array
from worldprobe.analysis._sources import Source
from worldprobe.analysis._stream import VALIDATION
from worldprobe.probes import RidgeProbe

Losses = dict[str, NDArray[np.float64]]
"""Squared error of each factor: factor -> one value per row, or per fork and step."""


class Decoder:
    """One ridge probe per fold from a source to every label: D of the own-update score, and the probe of the state score.

    Each row, and each fork that starts at a row, is predicted by the probe of its fold, which never saw its episode.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.stream, self.name = source, source.stream, source.name

    @cached_property
    def _probes(self) -> list[RidgeProbe]:
        stream, scored = self.stream, self.stream.scored
        if self.source.is_shared:
            folds, groups = stream.folds[scored], stream.groups[scored]
            return RidgeProbe().fit_folds(self.source.rows(0)[scored], stream.targets[scored], folds, groups)
        return [self._fit(fold) for fold in range(stream.n_folds)]

    def _fit(self, fold: int) -> RidgeProbe:
        """Fit the probe of one fold on the others, which are its inner folds as well."""
        stream, rows = self.stream, self.stream.fit_rows(fold)
        inner = np.unique(stream.folds[rows], return_inverse=True)[1]
        return RidgeProbe().fit(self.source.rows(fold)[rows], stream.targets[rows], groups=stream.groups[rows], folds=inner)

    @cached_property
    def predictions(self) -> NDArray[np.float64]:
        """Out-of-fold predictions of the scored rows, (n_scored, labels.width)."""
        predictions = np.empty((len(self.stream.groups), self.stream.labels.width))
        for fold, probe in enumerate(self._probes):
            rows = np.flatnonzero(self.stream.folds == fold)
            predictions[rows] = probe.predict(self.source.rows(fold)[rows])
        return predictions[self.stream.scored]

    @cached_property
    def losses(self) -> Losses:
        """Squared error of each scored row."""
        return self.stream.labels.losses(self.stream.targets[self.stream.scored], self.predictions)

    @cached_property
    def validation_loss(self) -> dict[str, float]:
        """Mean squared error of each factor on the validation episodes, over the folds' probes."""
        rows = np.flatnonzero(self.stream.folds == VALIDATION)
        predictions = [probe.predict(self.source.rows(fold)[rows]) for fold, probe in enumerate(self._probes)]
        losses = [self.stream.labels.losses(self.stream.targets[rows], prediction) for prediction in predictions]
        return {name: float(np.mean([loss[name].mean() for loss in losses])) for name in self.stream.labels.columns}

    def fork_predictions(self, forks: Forks) -> NDArray[np.float64]:
        """Return what the frozen decoder reads after each forked step, (n_forks, horizon, labels.width)."""
        folds = self.stream.folds[forks.rows]
        predictions = np.empty((len(forks), forks.horizon, self.stream.labels.width))
        for fold in range(len(self._probes)):
            chosen = np.flatnonzero(folds == fold)
            predictions[chosen] = self._read(fold, self.source.forks(forks.take(chosen), fold))
        return predictions

    def read_forks(self, forks: Forks, features: Array) -> NDArray[np.float64]:
        """Return what the frozen decoder reads from other features of the forks, (n_forks, horizon, width of the source)."""
        folds = self.stream.folds[forks.rows]
        predictions = np.empty((*features.shape[:2], self.stream.labels.width))
        for fold in range(len(self._probes)):
            predictions[folds == fold] = self._read(fold, features[folds == fold])
        return predictions

    def _read(self, fold: int, features: Array) -> NDArray[np.float64]:
        """Apply the probe of one fold to features (n, horizon, width)."""
        read: NDArray[np.float64] = self._probes[fold].predict(features.reshape(-1, features.shape[-1]))
        return read.reshape(*features.shape[:2], -1)

    def fork_losses(self, forks: Forks, targets: Array) -> Losses:
        """Return the squared error of the frozen decoder after each forked step; `targets` is (n_forks, horizon, width)."""
        return self.stream.labels.losses(targets, self.fork_predictions(forks))

    def refit_losses(self, forks: Forks, targets: Array) -> Losses:
        """Return the squared error of decoders fitted anew on the forked states of each step, cross-fitted over the same folds."""
        folds, groups = self.stream.folds[forks.rows], self.stream.groups[forks.rows]
        predictions = np.zeros(targets.shape)
        for fold in range(self.stream.n_folds):
            features = self.source.forks(forks, fold)
            for step in range(targets.shape[1]):
                fit = np.flatnonzero((folds != fold) & forks.alive[:, step])
                probe = RidgeProbe().fit(features[fit, step], targets[fit, step], groups=groups[fit])
                score = np.flatnonzero((folds == fold) & forks.alive[:, step])
                predictions[score, step] = probe.predict(features[score, step])
        return self.stream.labels.losses(targets, predictions)
