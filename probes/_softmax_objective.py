"""The penalised log-loss of many heads at once, in coordinates where the features are uncorrelated.

With V, lambda the eigenvectors and eigenvalues of the standardised features' correlations, u = V' z / sqrt(lambda + c). In these
coordinates the curvature of every penalty is well scaled, so that products in float32 are enough; sums over rows are taken in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

LOGITS = 2**19
"""Logits that are held at a time."""

CURVATURE_ROWS_PER_FEATURE = 4
"""Rows that the preconditioner is estimated from, per feature; it steers the descent and leaves its end where it is."""

INTERCEPT_RIDGE = 1e-6
"""Keeps the curvature of the unpenalised intercept away from zero."""

NEVER = -1e30
"""Logit of a class that a head does not have."""


@dataclass(frozen=True, eq=False)
class SoftmaxObjective:
    """Mean log-loss plus alpha/2 |W|^2 of each head; `weights` (b, n_classes, n_features + 1) end in the intercept."""

    U: Tensor
    """Rows (n, n_features) in the coordinates above."""
    codes: Tensor
    """Class codes (n, n_heads)."""
    absent: Tensor
    """Which classes have no training rows (n_heads, n_classes)."""
    ridge: Tensor
    """alpha times the squared length of a raw unit weight along each coordinate, zero for the intercept (n_features + 1,)."""

    @property
    def eps(self) -> float:
        """Relative rounding error of a loss."""
        return float(torch.finfo(self.U.dtype).eps)

    def every(self, stride: int, ridge: Tensor) -> SoftmaxObjective:
        """Return the objective of every `stride`-th row under another penalty."""
        return replace(self, U=self.U[::stride], codes=self.codes[::stride], ridge=ridge)

    def start(self) -> Tensor:
        """Return the solution under an infinite penalty: the class frequencies."""
        n_classes = self.absent.shape[1]
        counts = torch.stack([torch.bincount(head, minlength=n_classes) for head in self.codes.T])
        weights = torch.zeros(*counts.shape, self.U.shape[1] + 1, dtype=torch.float64)
        weights[..., -1] = torch.where(self.absent, 0.0, torch.log(counts / len(self.codes)))
        return weights

    def loss_and_gradient(self, weights: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses (b,) and gradients (b, n_classes, n_features + 1) of `heads` (b,)."""
        (n, n_features), (b, n_classes, _) = self.U.shape, weights.shape
        loss, gradient = torch.zeros(b, dtype=torch.float64), torch.zeros(b * n_classes, n_features + 1, dtype=torch.float64)
        codes, size = self.codes[:, heads, None], max(1, LOGITS // (b * n_classes))
        for U, own_codes in zip(torch.split(self.U, size), torch.split(codes, size), strict=True):
            logits = self._logits(U, weights, heads)
            own = logits.gather(2, own_codes)
            greatest = logits.amax(2, keepdim=True)
            p = logits.sub_(greatest).exp_()
            normaliser = p.sum(2, keepdim=True)
            loss += (normaliser.log() + greatest - own).sum((0, 2), dtype=torch.float64)
            error = p.div_(normaliser).scatter_add_(2, own_codes, torch.full_like(own, -1.0)).flatten(1)
            gradient[:, :-1] += error.T @ U
            gradient[:, -1] += error.sum(0, dtype=torch.float64)
        loss = loss / n + (self.ridge * weights.square()).sum((1, 2)) / 2
        full = gradient.view_as(weights) / n + self.ridge * weights
        return loss, full.masked_fill(self.absent[heads][..., None], 0.0)

    def blocks(self, weights: Tensor, heads: Tensor) -> Tensor:
        """Return each class's own block of the curvature (b, n_classes, n_features + 1, n_features + 1), from evenly spaced rows."""
        stride = max(1, len(self.U) // (CURVATURE_ROWS_PER_FEATURE * self.U.shape[1]))
        rows = self.U[::stride]
        p = self._logits(rows, weights, heads).softmax(2)
        spread = (p * (1 - p)).flatten(1)
        design = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        blocks = torch.stack([(design * weight[:, None]).T @ design for weight in spread.T]).double() / len(rows)
        blocks.diagonal(dim1=1, dim2=2).add_(self.ridge + INTERCEPT_RIDGE * (self.ridge == 0))
        return blocks.view(*weights.shape, -1)

    def preconditioner(self, weights: Tensor, heads: Tensor) -> Tensor:
        """Return the inverses of the blocks."""
        inverse: Tensor = torch.cholesky_inverse(torch.linalg.cholesky(self.blocks(weights, heads)))
        return inverse.to(self.U.dtype)

    def _logits(self, U: Tensor, weights: Tensor, heads: Tensor) -> Tensor:
        """Return logits (n, b, n_classes)."""
        flat = weights.masked_fill(self.absent[heads][..., None], 0.0).flatten(0, 1).to(U.dtype)
        logits = (U @ flat[:, :-1].T + flat[:, -1]).view(len(U), *weights.shape[:2])
        return logits.masked_fill_(self.absent[heads], NEVER)


def eigenbasis(Z: Tensor, least_alpha: float) -> tuple[Tensor, Tensor]:
    """Return the map z -> u (n_features, n_features), and the squared length of a raw unit weight along each coordinate (n_features,).

    `least_alpha` is the weakest penalty that will be asked for: where the features vary less than it can see, they are not blown up.
    """
    correlations = torch.zeros(Z.shape[1], Z.shape[1], dtype=torch.float64)
    for rows in torch.split(Z, 2**14):
        correlations += rows.T @ rows
    eigenvalues, vectors = torch.linalg.eigh(correlations / len(Z))
    scale = (eigenvalues.clamp_min(0.0) + 20 * least_alpha).sqrt()
    return vectors / scale, scale**-2
