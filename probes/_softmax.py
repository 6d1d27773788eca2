"""Multinomial logistic regression of many heads and training sets, solved side by side in shared passes over the rows.

For one training set and one head with labels c_i, minimise

    (1/n) sum_i [ logsumexp(eta_i) - eta_i[c_i] ]  +  alpha/2 |W|^2,      eta_i = W' z_i + b,      z standardised on these rows.

Recurrent activations are nearly collinear, so descent on z crawls. Here all jobs (head, training set) share coordinates u in which the
features have unit covariance; each job's penalty is a quadratic form in them. A block of rows gives logits, losses and gradients of all
jobs by two matrix products. Steps are preconditioned by each class's own block of the curvature, U' diag(p_c (1 - p_c)) U / n + alpha P.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from worldprobe.probes._losses import PROBABILITY_FLOOR

CURVATURE_ROWS_PER_FEATURE = 6
"""Rows that each block of the curvature is estimated from, per feature, drawn as they weigh in it; it steers and moves no minimum."""

UNIFORM_SHARE = 0.3
"""Share of those rows that is drawn uniformly, against labels that are sure of themselves too early."""

INTERCEPT_RIDGE = 1e-6
"""Keeps the block of the unpenalised intercept positive."""

NEVER = -1e4
"""Logit of a class that a training set lacks."""


@dataclass(frozen=True, eq=False)
class CodedBlock:
    """Consecutive rows of one fold, in shared coordinates."""

    U: Tensor
    """Coordinates and a one (n, n_features + 1)."""
    codes: Tensor
    """Class codes (n, n_heads)."""
    mask: Tensor | None
    """Which labels exist (n, n_heads); None: all."""
    fold: int


@dataclass(frozen=True, eq=False)
class Pool:
    """A sample of the rows, from which curvature is estimated."""

    U: Tensor
    folds: Tensor
    mask: Tensor
    """(n, n_heads)"""


@dataclass(eq=False)
class Jobs:
    """What is to be solved: one job per head and training set."""

    head: Tensor
    """(n_jobs,)"""
    trained: Tensor
    """Whether a job learns from a fold (n_jobs, n_folds)."""
    counts: Tensor
    """Labelled training rows of each class (n_jobs, n_classes); classes that the head does not have count zero."""
    penalty: Tensor
    """P of each job's training set, (n_features, n_features), by `penalty_of`."""
    penalty_of: Tensor

    def select(self, jobs: Tensor, n_classes: int) -> Jobs:
        """Return some of the jobs, with so many classes."""
        return Jobs(self.head[jobs], self.trained[jobs], self.counts[jobs, :n_classes], self.penalty, self.penalty_of[jobs])


@dataclass(eq=False)
class SoftmaxObjectives:
    """The mean log-losses of jobs, as functions of weights (n_jobs, n_classes, n_features + 1) that end in the intercept."""

    rows: Iterable[CodedBlock]
    """Every iteration goes over all rows."""
    pool: Pool
    jobs: Jobs
    inverse_curvature: Tensor = field(init=False)
    generator: torch.Generator = field(init=False)
    caution: float = 1.0
    """Weight of all rows alike in the curvature, halved at every look: at first, labels are less sure of themselves than they seem."""

    def __post_init__(self) -> None:
        """Set aside room for the curvature."""
        n_jobs, n_classes = self.jobs.counts.shape
        width = self.jobs.penalty.shape[1] + 1
        self.inverse_curvature = torch.zeros(n_jobs, n_classes, width, width, dtype=self.jobs.penalty.dtype)
        self.generator = torch.Generator().manual_seed(0)
        self._n = self.jobs.counts.sum(1)
        self._never = torch.where(self.jobs.counts > 0, 0.0, NEVER).to(self.jobs.penalty.dtype)

    def start(self) -> Tensor:
        """Return the solution under an infinite penalty: the class frequencies."""
        shares = self.jobs.counts / self._n[:, None]
        intercepts = torch.where(shares > 0, shares, 1.0).log()
        weights = torch.zeros(self.inverse_curvature.shape[:3], dtype=self.jobs.penalty.dtype)
        weights[:, :, -1] = intercepts
        return weights

    def evaluate(self, weights: Tensor, jobs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean log-loss (n_jobs,) and its gradient, from one pass over the rows."""
        loss, gradient = torch.zeros(len(jobs), dtype=torch.float64), torch.zeros_like(weights)
        shares: dict[int, _FoldShare] = {}
        for block in self.rows:
            if block.fold not in shares:
                members = self.jobs.trained[jobs, block.fold].nonzero()[:, 0]
                shares[block.fold] = _FoldShare.of(members, self.jobs.head[jobs[members]], self._with_never(weights, jobs)[members])
            shares[block.fold].add(block)
        for share in shares.values():
            loss.index_add_(0, share.members, share.loss)
            gradient.index_add_(0, share.members, share.gradient.view(-1, *weights.shape[1:]))
        n = self._n[jobs]
        return loss / n, gradient / n.to(weights.dtype)[:, None, None]

    def penalty_gradient(self, weights: Tensor, jobs: Tensor) -> Tensor:
        """Return P w of each job and class; zero for intercepts."""
        pull = torch.zeros_like(weights)
        pull[:, :, :-1] = torch.bmm(weights[:, :, :-1], self.jobs.penalty[self.jobs.penalty_of[jobs]])
        return pull

    def learn_curvature(self, weights: Tensor, jobs: Tensor, ridge: float) -> None:
        """Estimate and invert each class's block of the curvature."""
        for job, own in zip(jobs.tolist(), self._with_never(weights, jobs), strict=True):
            rows = self.jobs.trained[job][self.pool.folds] & self.pool.mask[:, self.jobs.head[job]]
            blocks = self._curvature(self.pool.U[rows], own)
            blocks[:, :-1, :-1] += ridge * self.jobs.penalty[self.jobs.penalty_of[job]]
            diagonal = blocks.diagonal(dim1=1, dim2=2)
            diagonal += 4 * torch.finfo(blocks.dtype).eps * diagonal.amax(1, keepdim=True)
            diagonal[:, -1] += INTERCEPT_RIDGE
            self.inverse_curvature[job] = torch.cholesky_inverse(torch.linalg.cholesky(blocks))
        self.caution /= 2

    def precondition(self, gradient: Tensor, jobs: Tensor) -> Tensor:
        """Return each class's inverse block times its gradient."""
        pairs = zip(jobs.tolist(), self._without_mean(gradient, jobs), strict=True)
        white = [torch.bmm(self.inverse_curvature[job], own[:, :, None])[:, :, 0] for job, own in pairs]
        return self._without_mean(torch.stack(white), jobs)

    def _without_mean(self, weights: Tensor, jobs: Tensor) -> Tensor:
        """Take the mean over a job's classes from their weights: the minimum has none, and no block knows how little it would cost."""
        present = (self.jobs.counts[jobs] > 0).to(weights.dtype)[:, :, None]
        return (weights - (weights * present).sum(1, keepdim=True) / present.sum(1, keepdim=True)) * present

    def held_out_losses(self, weights: Tensor) -> Tensor:
        """Return the summed log-loss in nats, floored, of each job on each fold that it did not learn from, (n_jobs, n_folds)."""
        losses = torch.zeros(self.jobs.trained.shape, dtype=torch.float64)
        complete = self._with_never(weights, torch.arange(len(weights)))
        for block in self.rows:
            members = (~self.jobs.trained[:, block.fold]).nonzero()[:, 0]
            if len(members):
                losses[members, block.fold] += _own_losses(block, self.jobs.head[members], complete[members])
        return losses

    def _with_never(self, weights: Tensor, jobs: Tensor) -> Tensor:
        """Return the weights, with intercepts that exclude classes without rows."""
        complete = weights.clone()
        complete[:, :, -1] += self._never[jobs]
        return complete

    def _curvature(self, U: Tensor, weights: Tensor) -> Tensor:
        """Return U' diag(p_c (1 - p_c)) U / n for each class (n_classes, width, width), from rows drawn as they weigh in it."""
        p = torch.softmax(U @ weights.T, 1).T
        weight = p * (1 - p) / len(U)
        weight += self.caution * weight.mean(1, keepdim=True)
        n_drawn = CURVATURE_ROWS_PER_FEATURE * U.shape[1]
        if len(U) <= n_drawn:
            return (U.T * weight[:, None]) @ U
        total = weight.sum(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
        chances = (1 - UNIFORM_SHARE) * weight / total + UNIFORM_SHARE / len(U)
        drawn = torch.multinomial(chances, n_drawn, replacement=True, generator=self.generator)
        scale = (weight.gather(1, drawn) / (chances.gather(1, drawn) * n_drawn)).sqrt()
        scaled = U[drawn] * scale[:, :, None]
        return scaled.transpose(1, 2) @ scaled


@dataclass(eq=False)
class _FoldShare:
    """Losses and gradients of the jobs that learn from one fold, as its blocks come in."""

    members: Tensor
    heads: Tensor
    weights: Tensor
    """(n_features + 1, n_members x n_classes)"""
    loss: Tensor
    gradient: Tensor

    @classmethod
    def of(cls, members: Tensor, heads: Tensor, weights: Tensor) -> _FoldShare:
        """Begin with nothing."""
        flat = weights.flatten(0, 1)
        return cls(members, heads, flat.T.contiguous(), torch.zeros(len(members), dtype=torch.float64), torch.zeros_like(flat))

    def add(self, block: CodedBlock) -> None:
        """Add a block."""
        if not len(self.members):
            return
        error = torch.log_softmax((block.U @ self.weights).view(len(block.U), len(self.members), -1), 2)
        codes = block.codes[:, self.heads, None]
        own = error.gather(2, codes)[:, :, 0]
        error.exp_().scatter_add_(2, codes, codes.new_full((), -1.0, dtype=error.dtype).expand(codes.shape))
        if block.mask is not None:
            known = block.mask[:, self.heads].to(error.dtype)
            own = own * known
            error *= known[:, :, None]
        self.loss -= own.sum(0, dtype=torch.float64)
        self.gradient.addmm_(error.view(len(block.U), -1).T, block.U)


def _own_losses(block: CodedBlock, heads: Tensor, weights: Tensor) -> Tensor:
    """Return the summed losses (n_jobs,) of a block's labels, with no probability below the floor."""
    logits = (block.U @ weights.flatten(0, 1).T).view(len(block.U), len(heads), -1)
    own = torch.log_softmax(logits, 2).gather(2, block.codes[:, heads, None])[:, :, 0].double()
    own = own.clamp_min(float(torch.tensor(PROBABILITY_FLOOR, dtype=torch.float64).log()))
    return -(own if block.mask is None else own * block.mask[:, heads]).sum(0)
