"""Directions from one class of a factor to another, as activations tell them: where steering moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from worldprobe.probes import RidgeProbe

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Directions:
    """From one class of a factor to another, within each context, as activations (n, width) tell it.

    Contexts number all rows of a stream; `rows` are those that the activations and labels belong to.
    """

    def __init__(self, content: Floats, labels: Integers, context: Integers, rows: Integers, n_classes: int) -> None:
        self.content, self.labels, self.n_classes = content, labels, n_classes
        self.context, self.places, self.rows = context, context[rows], rows
        self.n_contexts = int(context.max()) + 1
        cell = self.places * n_classes + labels
        self.counts = np.bincount(cell, minlength=self.n_contexts * n_classes).reshape(self.n_contexts, n_classes)
        member = csr_array((np.ones(len(cell)), (cell, np.arange(len(cell)))), shape=(self.n_contexts * n_classes, len(cell)))
        sums = np.asarray(member @ content).reshape(self.n_contexts, n_classes, content.shape[1])
        self.means = sums / np.maximum(self.counts[:, :, None], 1)
        self.centres = sums.sum(axis=1) / np.maximum(self.counts.sum(axis=1)[:, None], 1)
        self.centred = content - self.centres[self.places]
        in_class = np.eye(n_classes)[labels]
        self.pooled = (in_class.T @ self.centred) / np.maximum(in_class.sum(axis=0)[:, None], 1)
        self._weights: Floats | None = None

    @property
    def weights(self) -> Floats:
        """Of a ridge probe of the class, beyond the context, (n_classes, width)."""
        if self._weights is None:
            target = np.eye(self.n_classes)[self.labels]
            shares = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
            self._weights = RidgeProbe(alphas=(1e-3,)).fit(self.centred, target - shares[self.places]).coef_
        return self._weights

    def between(self, context: Integers, present: Integers, other: Integers, kind: str) -> Floats:
        """Return the moves (n, width) from `present` to `other` in each context, or over all contexts where one was not seen there."""
        seen = (np.minimum(self.counts[context, present], self.counts[context, other]) > 0)[:, None]
        pattern = np.where(seen, self.means[context, other] - self.means[context, present], self.pooled[other] - self.pooled[present])
        if kind == "pattern":
            return pattern
        weights = self.weights[other] - self.weights[present]
        square = np.maximum((weights**2).sum(axis=1, keepdims=True), np.finfo(float).tiny)
        along: Floats = weights * ((weights * pattern).sum(axis=1, keepdims=True) / square)
        return along

    def random(self, present: Integers, other: Integers, rng: np.random.Generator) -> Floats:
        """Return directions (n, width) of the activations' covariance, one per pair of classes, opposite for the way back."""
        pair = np.minimum(present, other) * self.n_classes + np.maximum(present, other)
        kinds, number = np.unique(pair, return_inverse=True)
        drawn = rng.normal(size=(len(kinds), len(self.centred))) @ self.centred
        opposite: Floats = np.where(other > present, 1.0, -1.0)[:, None] * drawn[number]
        return opposite

    def shuffled(self, rng: np.random.Generator) -> Directions:
        """Return what is fitted with labels exchanged at random within each context."""
        order, labels = np.argsort(self.places, kind="stable"), np.empty_like(self.labels)
        mixed = np.lexsort((rng.random(len(self.places)), self.places))
        labels[order] = self.labels[mixed]
        return Directions(self.content, labels, self.context, self.rows, self.n_classes)
