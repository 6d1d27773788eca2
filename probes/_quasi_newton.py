"""Many smooth convex problems of one shape, minimised side by side by limited-memory quasi-Newton steps.

Each step starts from the problem's own approximate inverse curvature, corrected by the last steps taken (L-BFGS). Problems advance
independently: those whose step was too long try a shorter one in the pass in which the others already take their next. The ridge
falls to its target by a constant factor per pass; since the penalty is quadratic, the remembered steps are corrected for it exactly.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

MEMORY = 20
"""Steps that are remembered."""

RIDGE_START, RIDGE_DECAY = 1e-2, 0.6
"""A weak ridge is approached from this one, by this factor per pass: classes that come apart bend the loss too much for long steps."""

MAX_PASSES = 1000
"""For each ridge; twenty to sixty are usual."""

SUFFICIENT_DECREASE = 1e-4
"""Share of the linearly predicted decrease that a step must reach."""


class Objectives(Protocol):
    """Problems j of weights w_j (n_weights,): minimise f_j(w) + ridge/2 w' P_j w."""

    def start(self) -> Tensor:
        """Return where to begin, (n_problems, ...); losses are never negative."""

    def evaluate(self, weights: Tensor, jobs: Tensor) -> tuple[Tensor, Tensor]:
        """Return f (n_jobs,) in float64 and its gradient (n_jobs, ...) of the problems `jobs` at `weights`: one pass over the rows."""

    def penalty_gradient(self, weights: Tensor, jobs: Tensor) -> Tensor:
        """Return P_j w."""

    def learn_curvature(self, weights: Tensor, jobs: Tensor, ridge: float) -> None:
        """Look at the curvature at `weights`."""

    def precondition(self, gradient: Tensor, jobs: Tensor) -> Tensor:
        """Return the approximate inverse curvature times a gradient."""


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """Return inner products over all but the first axis, in float64."""
    product: Tensor = (one * other).flatten(1).sum(1, dtype=torch.float64)
    return product


class Descent:
    """The state of all problems. `to` takes them to their minima under one ridge after another, best from the largest down."""

    def __init__(self, objectives: Objectives, ridge: float, tolerance: float) -> None:
        self.objectives, self.tolerance = objectives, tolerance
        self.ridge = max(ridge, RIDGE_START)
        self.weights = objectives.start()
        self.everyone = torch.arange(len(self.weights))
        self.loss, self.gradient = self._penalised(self.weights, self.everyone)
        self.steps = self.weights.new_zeros((MEMORY, *self.weights.shape))
        self.changes = torch.zeros_like(self.steps)
        self.inverse = self.weights.new_zeros((MEMORY, len(self.weights)), dtype=torch.float64)
        self.direction = torch.zeros_like(self.weights)
        self.slope = torch.zeros(len(self.weights), dtype=torch.float64)
        self.length = torch.ones(len(self.weights), dtype=torch.float64)
        self.n_passes = 0

    def to(self, ridge: float) -> Tensor:
        """Return the weights at which the predicted decrease of every problem is at most the tolerance."""
        active, turning = self.everyone, torch.ones(len(self.weights), dtype=torch.bool)
        for number in range(MAX_PASSES):
            if self.ridge > ridge:
                self._relax(max(ridge, RIDGE_DECAY * self.ridge))
                turning[active] = True
            if (number + 2) & (number + 1) == 0:  # 0, 2, 6, 14, 30, ...: curvature changes most in the beginning
                self.objectives.learn_curvature(self.weights[active], active, self.ridge)
            self._turn(active[turning[active]])
            if self.ridge == ridge:
                active = active[self._unfinished(active)]
            if not len(active):
                break
            turning[active] = self._step(active)
        return self.weights.clone()

    def _penalised(self, weights: Tensor, jobs: Tensor) -> tuple[Tensor, Tensor]:
        """Return objective and gradient, penalty included."""
        loss, gradient = self.objectives.evaluate(weights, jobs)
        pull = self.objectives.penalty_gradient(weights, jobs)
        return loss + self.ridge / 2 * _dot(weights, pull), gradient + self.ridge * pull

    def _relax(self, ridge: float) -> None:
        """Change the ridge, and everything that is remembered accordingly."""
        change, self.ridge = ridge - self.ridge, ridge
        pull = self.objectives.penalty_gradient(self.weights, self.everyone)
        self.loss = self.loss + change / 2 * _dot(self.weights, pull)
        self.gradient = self.gradient + change * pull
        for slot, step in enumerate(self.steps):
            self.changes[slot] += change * self.objectives.penalty_gradient(step, self.everyone)
            self._remember(slot, self.everyone)

    def _remember(self, slot: int, jobs: Tensor) -> None:
        """Keep a step where the gradient grew along it, as it must; forget it where rounding hides that."""
        growth = _dot(self.steps[slot, jobs], self.changes[slot, jobs])
        size = _dot(self.changes[slot, jobs], self.changes[slot, jobs])
        self.inverse[slot, jobs] = torch.where(growth > 1e-12 * size, 1.0 / growth.clamp_min(1e-300), 0.0)

    def _turn(self, jobs: Tensor) -> None:
        """Point these problems along their quasi-Newton directions (the two-loop recursion)."""
        if not len(jobs):
            return
        dtype, shape = self.weights.dtype, (-1, *[1] * (self.weights.ndim - 1))
        descent, shares = -self.gradient[jobs], {}
        slots = [(self.n_passes - back) % MEMORY for back in range(1, MEMORY + 1)]
        for slot in slots:
            shares[slot] = self.inverse[slot, jobs] * _dot(self.steps[slot, jobs], descent)
            descent -= shares[slot].to(dtype).view(shape) * self.changes[slot, jobs]
        descent = self.objectives.precondition(descent, jobs)
        for slot in reversed(slots):
            share = shares[slot] - self.inverse[slot, jobs] * _dot(self.changes[slot, jobs], descent)
            descent += share.to(dtype).view(shape) * self.steps[slot, jobs]
        self.direction[jobs] = descent
        self.slope[jobs] = _dot(self.gradient[jobs], descent)
        sensible = self.loss[jobs] / self.slope[jobs].neg().clamp_min(1e-300)  # no loss falls below zero
        self.length[jobs] = torch.minimum((2 * self.length[jobs]).clamp(max=1.0), sensible)

    def _unfinished(self, jobs: Tensor) -> Tensor:
        """Which problems expect a decrease that is worth a step and not lost in rounding."""
        resolution = 4 * torch.finfo(self.weights.dtype).eps * self.loss[jobs].abs() * (self.weights.dtype == torch.float32)
        worth = -self.slope[jobs] / 2 > torch.maximum(torch.tensor(self.tolerance, dtype=torch.float64), resolution)
        unfinished: Tensor = worth & (self.length[jobs] > 1e-6)
        return unfinished

    def _step(self, jobs: Tensor) -> Tensor:
        """Try a step; return which problems took it. The others keep their direction and will try a shorter one."""
        length, slope = self.length[jobs], self.slope[jobs]
        step = length.to(self.weights.dtype).view(-1, *[1] * (self.weights.ndim - 1)) * self.direction[jobs]
        loss, gradient = self._penalised(self.weights[jobs] + step, jobs)
        slack = torch.finfo(self.weights.dtype).eps * self.loss[jobs].abs()
        taken = loss <= self.loss[jobs] + SUFFICIENT_DECREASE * length * slope + slack
        steeper = _dot(gradient, self.direction[jobs]) - slope
        shorter = torch.where(steeper > 0, -slope / steeper.clamp_min(1e-300), 0.5).clamp(0.1, 0.5)
        self.length[jobs] = torch.where(taken, length, shorter * length)
        slot, movers = self.n_passes % MEMORY, jobs[taken]
        self.inverse[slot, jobs] = 0.0
        self.steps[slot, movers], self.changes[slot, movers] = step[taken], gradient[taken] - self.gradient[movers]
        self._remember(slot, movers)
        self.weights[movers] += step[taken]
        self.loss[movers], self.gradient[movers] = loss[taken], gradient[taken]
        self.n_passes += 1
        return taken
