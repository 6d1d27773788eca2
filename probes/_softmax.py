"""Multinomial logistic regression of many heads at once.

For one training set, minimise for each head with labels c_i

    (1/n) sum_i [ logsumexp(eta_i) - eta_i[c_i] ]  +  alpha/2 |W|^2,      eta_i = W' z_i + b,      z standardised on these rows.

Recurrent activations are nearly collinear, so L-BFGS on z crawls. Here all heads descend together in the eigenbasis of Z'Z
(`_softmax_objective`), each preconditioned by its classes' own blocks of the curvature. A path of penalties runs from the strongest to
the weakest, each starting at the one before, and never from a solution that saw held-out rows; the first of a path starts from
stronger ones still, solved roughly on some of the rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldprobe.probes._descent import minimise
from worldprobe.probes._losses import PROBABILITY_FLOOR
from worldprobe.probes._nested import check_training_rows
from worldprobe.probes._softmax_objective import SoftmaxObjective, eigenbasis
from worldprobe.probes._standardise import Standardiser
from worldprobe.probes._validation import Floats, Integers

APPROACH = ((4, 100.0), (2, 10.0))
"""Every how many rows, and how many times its penalty, the first solution of a path is approached from."""

ROUGH = 10.0
"""How much more loss than at the end is left on the approach."""

APPROACH_ROWS = 2**11
"""Rows that an approach takes at least; fewer rows are solved at once."""

COLUMNS = 256
"""Classes, of all heads together, that share a descent; more would not make the products faster."""


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


class Descent:
    """Solutions of heads that share their training rows, along falling penalties.

    Parameters
    ----------
    Z : ndarray, shape (n, n_features)
        Standardised rows.
    labels : ndarray of int64, shape (n, n_heads)
        Class codes.
    n_classes : sequence of int
        Classes of each head, met or not.
    alphas : ndarray
        Penalties from the strongest to the weakest.
    tolerance : float
        A descent ends where ten steps no longer lower the loss by so many nats per row.
    """

    def __init__(self, Z: NDArray[Any], labels: Integers, n_classes: Sequence[int], alphas: Floats, tolerance: float) -> None:
        rows, codes = torch.from_numpy(np.ascontiguousarray(Z)), torch.from_numpy(np.ascontiguousarray(labels))
        self.alphas, self.tolerance, self.n_classes = alphas, tolerance, n_classes
        self.to_white, self.unit = eigenbasis(rows, float(alphas[-1]))
        counts = torch.stack([torch.bincount(head, minlength=max(n_classes)) for head in codes.T])
        self.objective = SoftmaxObjective(rows @ self.to_white.to(rows.dtype), codes, counts == 0, self._ridge(0.0))

    def _ridge(self, alpha: float) -> Tensor:
        """Return the penalty of every coordinate, none for the intercept."""
        return torch.cat([alpha * self.unit, self.unit.new_zeros(1)])

    def solve(self, choices: Integers) -> list[list[Floats]]:
        """Return, for each head, the weights (n_classes, n_features + 1) of every penalty down to its choice (n_heads,)."""
        width = self.objective.absent.shape[1]
        size = max(1, COLUMNS // width)
        parts = torch.split(torch.arange(len(choices)), size)
        return [path for heads in parts for path in self._solve(heads, choices[heads.numpy()])]

    def _solve(self, heads: Tensor, choices: Integers) -> list[list[Floats]]:
        """Solve some of the heads together."""
        varied = (~self.objective.absent[heads]).sum(1) > 1
        weights = self._approach(self.objective.start()[heads], heads)
        solutions: list[list[Floats]] = [[] for _ in heads]
        for number, alpha in enumerate(self.alphas[: int(choices.max()) + 1]):
            going = varied & torch.from_numpy(choices >= number)
            objective = self.objective.every(1, self._ridge(float(alpha)))
            weights[going] = minimise(objective, weights[going], heads[going], self.tolerance)
            for head in np.flatnonzero(choices >= number):
                solutions[head].append(self._raw(weights[head], int(heads[head])))
        return solutions

    def _approach(self, weights: Tensor, heads: Tensor) -> Tensor:
        """Return where the first penalty of a path starts from."""
        for stride, times in APPROACH:
            alpha = times * float(self.alphas[0])
            if alpha < 1 and len(self.objective.U) > stride * APPROACH_ROWS:
                objective = self.objective.every(stride, self._ridge(alpha))
                weights = minimise(objective, weights, heads, ROUGH * self.tolerance)
        return weights

    def _raw(self, weights: Tensor, head: int) -> Floats:
        """Return weights on z; a class without rows gets intercept minus infinity, and so the floor probability."""
        full = torch.cat([weights[:, :-1] @ self.to_white.T, weights[:, -1:]], 1)
        absent = self.objective.absent[head]
        full[absent], full[absent, -1] = 0.0, -torch.inf
        raw: Floats = full[: self.n_classes[head]].numpy()
        return raw


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
        descent = Descent(Z, self.labels[rows], self.n_classes, self.alphas[: int(choices.max()) + 1], self.tolerance)
        return SoftmaxPath(self, standardiser, descent.solve(choices))
