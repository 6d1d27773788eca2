"""Descent of many convex functions at once, one for each head, that share every reading of the rows."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor

MEMORY = 40
"""Steps that the curvature is learned from; fewer took more evaluations on recurrent activations, whose condition numbers are large."""

WINDOW = 10
"""Steps over which a descent is judged."""

MAX_STEPS = 2000
"""Per penalty; fifty are usual."""

RENEWALS = (20, 100, 400)
"""Steps after which the preconditioner is made anew: the curvature falls where classes come apart."""


class Objective(Protocol):
    """Convex functions of weights, one per head."""

    @property
    def eps(self) -> float:
        """Relative rounding error of a loss."""

    def loss_and_gradient(self, weights: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values (b,) and gradients (b, n_classes, n_weights) of `heads` (b,) at their weights."""

    def preconditioner(self, weights: Tensor, heads: Tensor) -> Tensor:
        """Return approximate inverse curvatures (b, n_classes, n_weights, n_weights)."""


class Memory:
    """The last steps s and changes of gradient y of every head, as L-BFGS uses them."""

    def __init__(self, weights: Tensor) -> None:
        shape = (MEMORY, len(weights), weights[0].numel())
        self.steps, self.changes = torch.zeros(shape), torch.zeros(shape)
        self.inverse = torch.zeros(shape[:2])
        self.n = 0

    def learn(self, step: Tensor, change: Tensor, accepted: Tensor) -> None:
        """Keep a pair where it was accepted and shows curvature; elsewhere it counts for nothing."""
        curvature = (step * change).sum((1, 2))
        kept = accepted & (curvature > 1e-12 * change.square().sum((1, 2)))
        place = self.n % MEMORY
        self.steps[place] = (step * kept[:, None, None]).flatten(1)
        self.changes[place] = (change * kept[:, None, None]).flatten(1)
        self.inverse[place] = torch.where(kept, 1 / curvature.clamp_min(1e-30), 0.0)
        self.n += 1

    def direction(self, gradient: Tensor, preconditioner: Tensor) -> Tensor:
        """Return minus the approximate inverse curvature times the gradient (Nocedal & Wright 2006, algorithm 7.4)."""
        scale = gradient.abs().amax((1, 2)).clamp_min(torch.finfo(torch.float64).tiny)
        q = (gradient / scale[:, None, None]).flatten(1).float()
        order = [(self.n - 1 - back) % MEMORY for back in range(min(MEMORY, self.n))]
        shares = []
        for place in order:
            share = self.inverse[place] * torch.linalg.vecdot(self.steps[place], q)
            q = torch.addcmul(q, self.changes[place], share[:, None], value=-1)
            shares.append(share)
        q = (preconditioner @ q.view(*gradient.shape, 1).to(preconditioner.dtype)).float().flatten(1)
        for place, share in zip(reversed(order), reversed(shares), strict=True):
            rest = share - self.inverse[place] * torch.linalg.vecdot(self.changes[place], q)
            q = torch.addcmul(q, self.steps[place], rest[:, None])
        return -q.view_as(gradient).double() * scale[:, None, None]

    def keep(self, heads: Tensor) -> Self:
        """Forget all heads but those where `heads` (b,) holds."""
        self.steps, self.changes, self.inverse = self.steps[:, heads], self.changes[:, heads], self.inverse[:, heads]
        return self


def minimise(objective: Objective, weights: Tensor, heads: Tensor, tolerance: float) -> Tensor:
    """Return the weights (b, n_classes, n_weights) of `heads` where ten steps no longer lower the value by `tolerance`.

    Every evaluation serves all heads that still move, each at its own trial point: a head whose step was too long tries a shorter one
    while the others go on.
    """
    final, place = weights.clone(), torch.arange(len(heads))
    loss, gradient = objective.loss_and_gradient(weights, heads)
    inverse, memory = objective.preconditioner(weights, heads), Memory(weights)
    direction, length, past = memory.direction(gradient, inverse), torch.ones_like(loss), [loss]
    for step in range(1, MAX_STEPS + 1):
        trial = weights + length[:, None, None] * direction
        there, slope_there = objective.loss_and_gradient(trial, heads)
        slope = length * (gradient * direction).sum((1, 2))
        accepted = there <= loss + 1e-4 * slope + objective.eps * loss.abs()
        memory.learn(trial - weights, slope_there - gradient, accepted)
        shorter, at = length * _shortening(slope, there - loss), accepted[:, None, None]
        weights, gradient = torch.where(at, trial, weights), torch.where(at, slope_there, gradient)
        loss, length = torch.where(accepted, there, loss), torch.where(accepted, 1.0, shorter)
        past = [*past, loss][-WINDOW - 1 :]
        moving = (past[0] - loss > tolerance) | (len(past) <= WINDOW)
        if not moving.all():
            final[place[~moving]] = weights[~moving]
            place, heads, weights, gradient = place[moving], heads[moving], weights[moving], gradient[moving]
            loss, length, inverse, direction = loss[moving], length[moving], inverse[moving], direction[moving]
            past, at, memory = [values[moving] for values in past], at[moving], memory.keep(moving)
        if not len(heads):
            break
        if step in RENEWALS:
            inverse = objective.preconditioner(weights, heads)
        direction = torch.where(at, memory.direction(gradient, inverse), direction)
    final[place] = weights
    return final


def _shortening(slope: Tensor, rise: Tensor) -> Tensor:
    """Return where the parabola through a failed trial is least, as a share of the trial's length."""
    return (-slope / (2 * (rise - slope)).clamp_min(1e-300)).clamp(0.1, 0.5)
