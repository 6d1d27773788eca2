"""Ridge regression from sufficient statistics: one eigendecomposition gives every penalty of a training set.

With z the features standardised on the n training rows and m_j a multiplier of the penalty of feature j,

    minimise over w    sum_i (y_i - mean(y) - z_i . w)^2  +  n alpha sum_j m_j w_j^2,

one alpha for each target. `alpha` is the penalty per row, so it does not depend on n nor on any scale.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dtrmm, strmm

from worldprobe.probes._moments import Moments, total
from worldprobe.probes._nested import check_training_rows
from worldprobe.probes._validation import Floats, Integers

DOUBLE = np.dtype(np.float64)

PRODUCT_COLUMNS = 512
"""Targets times penalties whose held-out losses are computed at a time."""


@dataclass(frozen=True, eq=False)
class Eigenbasis:
    """Directions in which the (penalty-weighted) standardised features are uncorrelated on a training set."""

    eigenvalues: Floats
    """n times the variance along each direction (n_features,)."""
    to_features: Floats
    """Raw feature weights of each direction (n_features, n_features); zero rows for constant features."""

    @classmethod
    def of(cls, training: Moments, centred: Floats, multipliers: Floats) -> Eigenbasis:
        """Decompose `centred`, the training set's X'X around its mean."""
        variance = np.where(training.constant_features, 0.0, centred.diagonal() / training.n)
        weight = np.divide(1.0, np.sqrt(variance * multipliers), out=np.zeros_like(variance), where=variance > 0)
        eigenvalues, vectors = np.linalg.eigh(centred * np.outer(weight, weight))
        return cls(np.maximum(eigenvalues, 0.0), weight[:, None] * vectors)


@dataclass(frozen=True, eq=False)
class RidgeSolution:
    """Linear predictions y = offset + (x - shift) . coefficients, one column per target, where `shift` is the moments' own."""

    coefficients: Floats
    offset: Floats


@dataclass(frozen=True, eq=False)
class RidgePath:
    """Every ridge solution of one training set; a choice is a pair (multipliers, alpha), numbered multipliers first."""

    training: Moments
    folds: Sequence[Moments]
    alphas: Floats
    bases: Sequence[Eigenbasis]
    xy: Floats
    """X'Y of the training set around its means (n_features, n_targets)."""
    precision: np.dtype[Any] = DOUBLE
    """Of the products that held-out losses are made of."""

    def losses(self, fold: int) -> Floats:
        """Return the summed squared error on a fold, (n_choices, n_targets), from that fold's moments alone."""
        xx, xy, yy = self.folds[fold].about(self.training.x_mean, self.training.y_mean)
        return np.concatenate([self._losses(basis, xx, xy, yy) for basis in self.bases])

    def _losses(self, basis: Eigenbasis, xx: Floats, xy: Floats, yy: Floats) -> Floats:
        """Return the losses (n_alphas, n_targets) |y|^2 - 2 w . X'y + w . X'X w, in the coordinates of `basis`."""
        gram, products = basis.to_features.T @ xx @ basis.to_features, basis.to_features.T @ xy
        projected = basis.to_features.T @ self.xy
        # w . G w = 2 w . H w with H triangular: half the work
        half = (np.tril(gram, -1) + np.diag(gram.diagonal() / 2)).astype(self.precision)
        shrinkage = 1.0 / (basis.eigenvalues[:, None] + self.training.n * self.alphas)
        losses = yy - 2 * (shrinkage.T @ (projected * products))
        rounded, shrinkage = projected.astype(self.precision), shrinkage.astype(self.precision)
        size = max(1, PRODUCT_COLUMNS // len(yy))
        for first in range(0, len(self.alphas), size):
            some = slice(first, first + size)
            weights = shrinkage[:, some, None] * rounded[:, None, :]
            curved = triangular_product(half, weights.reshape(len(half), -1)).reshape(weights.shape)
            losses[some] += 2 * np.einsum("pat,pat->at", weights, curved)
        return losses

    def solve(self, choices: Integers) -> RidgeSolution:
        """Return the solution of each target's own choice (n_targets,)."""
        chosen_basis, chosen_alpha = np.divmod(choices, len(self.alphas))
        coefficients = np.empty_like(self.xy)
        for number in np.unique(chosen_basis):
            basis, targets = self.bases[number], chosen_basis == number
            penalty = self.training.n * self.alphas[chosen_alpha[targets]]
            projected = basis.to_features.T @ self.xy[:, targets]
            coefficients[:, targets] = basis.to_features @ (projected / (basis.eigenvalues[:, None] + penalty))
        offset = self.training.target_shift + self.training.y_mean - self.training.x_mean @ coefficients
        return RidgeSolution(coefficients, offset)


@dataclass(frozen=True, eq=False)
class RidgeProblem:
    """Ridge on targets that share one mask, from the moments of each fold."""

    folds: Sequence[Moments]
    alphas: Floats
    multipliers: Floats
    """Candidate penalty multipliers of the features (n_candidates, n_features)."""
    precision: np.dtype[Any] = DOUBLE
    """Of the products that held-out losses are made of."""

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.folds)

    def path(self, without: Collection[int]) -> RidgePath:
        """Solve the training set of all folds but those in `without`."""
        training = total([moments for fold, moments in enumerate(self.folds) if fold not in without])
        check_training_rows(training.n, without)
        xx, xy, _ = training.about(training.x_mean, training.y_mean)
        bases = [Eigenbasis.of(training, xx, multipliers) for multipliers in self.multipliers]
        return RidgePath(training, self.folds, self.alphas, bases, xy, self.precision)

    def but(self, fold: int) -> RidgeProblem:
        """Return the problem that never saw `fold`."""
        return RidgeProblem([*self.folds[:fold], *self.folds[fold + 1 :]], self.alphas, self.multipliers, self.precision)

    def null_losses(self) -> Floats:
        """Return the squared error (n_targets,) of each fold's rows around the mean of the others."""
        losses = np.zeros(len(self.folds[0].target_shift))
        for fold, held in enumerate(self.folds):
            training = total(self.but(fold).folds)
            losses += held.about(training.x_mean, training.y_mean)[2]
        return losses


def triangular_product(lower: NDArray[Any], X: NDArray[Any]) -> NDArray[Any]:
    """Return the product of a lower triangular matrix and X (n, m), in their precision."""
    product: NDArray[Any] = (dtrmm if lower.dtype == DOUBLE else strmm)(1.0, lower.T, X.T, side=1, lower=0)
    return product.T


def block_multipliers(n_blocks: int, strengths: Sequence[float] = (1e2, 1e4)) -> Floats:
    """Return candidate penalty multipliers of column blocks, (n_candidates, n_blocks): equal; one block favoured; one suppressed."""
    candidates = [np.ones(n_blocks)]
    for strength in strengths:
        for block in np.eye(n_blocks):
            candidates += [strength ** (1 - block), strength**block]
    return np.unique([candidate / candidate.min() for candidate in candidates], axis=0)
