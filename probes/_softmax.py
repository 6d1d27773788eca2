"""Multinomial logistic regression, solved in coordinates where its curvature is nearly the identity.

For one training set and one head with labels c_i, minimise

    (1/n) sum_i [ logsumexp(eta_i) - eta_i[c_i] ]  +  alpha/2 |W|^2,      eta_i = W' z_i + b,      z standardised on these rows.

Recurrent activations are nearly collinear, so L-BFGS on z crawls. Here the variables of each class are whitened by the Cholesky
factor of that class's own block of the curvature, Z' diag(p_c (1 - p_c)) Z / n + alpha. A path of penalties runs from the strongest
to the weakest, each starting at the one before, and never from a solution that saw held-out rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fmin_l_bfgs_b

from worldprobe.probes._losses import PROBABILITY_FLOOR
from worldprobe.probes._nested import check_training_rows
from worldprobe.probes._standardise import Standardiser
from worldprobe.probes._validation import Floats, Integers

CURVATURE_ROWS_PER_FEATURE = 16
"""Rows that the whitening is estimated from, per feature; it steers the descent and leaves its end where it is."""

STEPS_PER_ROUND = 30
"""Steps of L-BFGS before the curvature is looked at again: it falls where classes come apart, and a stale one hides a slope."""

MAX_ROUNDS = 50
"""For each penalty; one to three are usual."""

INTERCEPT_RIDGE = 1e-6
"""Keeps the whitening of the unpenalised intercept finite."""


def _logits(weights: Floats, Z: NDArray[Any]) -> NDArray[Any]:
    """Return logits (n_classes, n), the greatest of each row zero. `weights` (n_classes, n_features + 1) end in the intercept."""
    logits: NDArray[Any] = weights[:, :-1].astype(Z.dtype) @ Z.T + weights[:, -1:].astype(Z.dtype)
    logits -= logits.max(axis=0)
    return logits


def _normalise(logits: NDArray[Any]) -> NDArray[Any]:
    """Turn logits into probabilities in place; return the log of each row's normaliser (n,)."""
    np.exp(logits, out=logits)
    normaliser = logits.sum(axis=0)
    logits /= normaliser
    log_normaliser: NDArray[Any] = np.log(normaliser)
    return log_normaliser


def probabilities(weights: Floats, Z: NDArray[Any]) -> Floats:
    """Return class probabilities (n, n_classes)."""
    p = _logits(weights, Z)
    _normalise(p)
    by_row: Floats = p.T.astype(np.float64)
    return by_row


def log_losses(weights: Floats, Z: NDArray[Any], labels: Integers) -> Floats:
    """Return -log p(label) in nats (n,), with p no less than the floor."""
    p = _logits(weights, Z)
    own = p[labels, np.arange(len(labels))]
    losses = (_normalise(p) - own).astype(np.float64)
    clipped: Floats = np.minimum(losses, -np.log(PROBABILITY_FLOOR))
    return clipped


class _Objective:
    """The penalised mean log-loss of one head, as a function of weights (n_classes, n_features + 1) that end in the intercept."""

    def __init__(self, Z: NDArray[Any], labels: Integers, n_classes: int) -> None:
        self.Z, self.labels, self.n_classes = Z, labels, n_classes
        self.rows = np.arange(len(Z))
        self.penalised = np.append(np.ones(Z.shape[1]), 0.0)

    def start(self) -> Floats:
        """Return the solution under an infinite penalty: the class frequencies."""
        weights = np.zeros((self.n_classes, self.Z.shape[1] + 1))
        weights[:, -1] = np.log(np.bincount(self.labels, minlength=self.n_classes) / len(self.labels))
        return weights

    def loss_and_gradient(self, weights: Floats, alpha: float) -> tuple[float, Floats]:
        """Return the objective and its derivative by `weights`."""
        error = _logits(weights, self.Z)
        own = error[self.labels, self.rows].mean(dtype=np.float64)
        loss = _normalise(error).mean(dtype=np.float64) - own + alpha / 2 * np.sum(weights[:, :-1] ** 2)
        error[self.labels, self.rows] -= 1
        gradient = np.column_stack([error @ self.Z, error.sum(axis=1, dtype=np.float64)]).astype(np.float64) / len(self.Z)
        return float(loss), gradient + alpha * self.penalised * weights

    def whitening(self, weights: Floats, alpha: float) -> Floats:
        """Return, for each class (n_classes, n_features + 1, n_features + 1), the map from white coordinates to weights.

        It is L^-T, with L L' the class's block of the curvature at `weights`, estimated from evenly spaced rows.
        """
        Z = self.Z[:: max(1, len(self.Z) // (CURVATURE_ROWS_PER_FEATURE * self.Z.shape[1]))].astype(np.float64)
        p = _logits(weights, Z)
        _normalise(p)
        Z = np.column_stack([Z, np.ones(len(Z))])
        ridge = np.diag(np.where(self.penalised > 0, alpha, INTERCEPT_RIDGE))
        blocks = np.stack([(Z.T * (share * (1 - share))) @ Z / len(Z) + ridge for share in p])
        factors = np.linalg.cholesky(blocks)
        return np.linalg.inv(factors).swapaxes(1, 2)

    def minimise(self, alpha: float, weights: Floats, tolerance: float) -> Floats:
        """Return the minimising weights, to where no derivative in white coordinates exceeds `tolerance`; starts at `weights`."""
        for _ in range(MAX_ROUNDS):
            colour = self.whitening(weights, alpha)
            loss, gradient = self.loss_and_gradient(weights, alpha)
            if np.abs(np.einsum("cij,ci->cj", colour, gradient)).max() <= tolerance:
                break
            weights, lower = self._descend(alpha, weights, colour, tolerance)
            if loss - lower <= np.finfo(self.Z.dtype).eps * loss:
                break
        return weights

    def _descend(self, alpha: float, start: Floats, colour: Floats, tolerance: float) -> tuple[Floats, float]:
        """Take L-BFGS steps in the white coordinates around `start`; return where they end, and the loss there."""

        def moved(white: Floats) -> Floats:
            weights: Floats = start + np.einsum("cij,cj->ci", colour, white.reshape(start.shape))
            return weights

        def objective(white: Floats) -> tuple[float, Floats]:
            loss, gradient = self.loss_and_gradient(moved(white), alpha)
            return loss, np.einsum("cij,ci->cj", colour, gradient).ravel()

        white, loss, _ = fmin_l_bfgs_b(objective, np.zeros(start.size), m=20, factr=0.0, pgtol=tolerance, maxiter=STEPS_PER_ROUND)
        return moved(white), loss


def descend(Z: NDArray[Any], labels: Integers, n_classes: int, alphas: Floats, tolerance: float) -> list[Floats]:
    """Return the weights (n_classes, n_features + 1) of each penalty; `alphas` go from the strongest to the weakest.

    A class without rows gets intercept minus infinity, and so the floor probability.
    """
    present, codes = np.unique(labels, return_inverse=True)
    objective = _Objective(Z, codes, len(present))
    weights, solutions = objective.start(), []
    for alpha in alphas:
        if len(present) > 1:
            weights = objective.minimise(float(alpha), weights, tolerance)
        full = np.zeros((n_classes, Z.shape[1] + 1))
        full[:, -1] = -np.inf
        full[present] = weights
        solutions.append(full)
    return solutions


@dataclass(frozen=True, eq=False)
class SoftmaxPath:
    """Solutions of one training set: weights on standardised features by head, then by penalty."""

    problem: SoftmaxProblem
    standardiser: Standardiser
    weights: list[list[Floats]]

    def losses(self, fold: int) -> Floats:
        """Return the summed log-loss in nats on a fold, (n_alphas, n_heads)."""
        rows = self.problem.folds == fold
        Z = self.standardiser.apply(self.problem.X[rows])
        heads = zip(self.weights, self.problem.labels[rows].T, strict=True)
        return np.array([[log_losses(weights, Z, labels).sum() for weights in path] for path, labels in heads]).T


@dataclass(frozen=True, eq=False)
class SoftmaxProblem:
    """Heads that share their labelled rows."""

    X: NDArray[Any]
    labels: Integers
    """Class codes (n, n_heads)."""
    n_classes: Sequence[int]
    folds: Integers
    n_folds: int
    alphas: Floats
    """From the strongest to the weakest."""
    tolerance: float

    def path(self, without: Collection[int]) -> SoftmaxPath:
        """Solve the training set of all folds but those in `without`, for every penalty."""
        return self.solve(without, np.full(len(self.n_classes), len(self.alphas) - 1))

    def solve(self, without: Collection[int], choices: Integers) -> SoftmaxPath:
        """Solve each head from the strongest penalty down to its choice (n_heads,), which comes last."""
        rows = ~np.isin(self.folds, list(without))
        check_training_rows(int(rows.sum()), without)
        standardiser = Standardiser.of(self.X[rows])
        Z = standardiser.apply(self.X[rows])
        heads = zip(self.labels[rows].T, self.n_classes, choices, strict=True)
        return SoftmaxPath(
            self, standardiser, [descend(Z, labels, n, self.alphas[: choice + 1], self.tolerance) for labels, n, choice in heads]
        )
