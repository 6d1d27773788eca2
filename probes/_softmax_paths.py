"""Every softmax solution along a path of penalties, for many heads and training sets at once.

A path runs from the strongest penalty to the weakest, each solution starting at the one before, and never from one that saw held-out rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldprobe.probes._nested import check_training_rows
from worldprobe.probes._quasi_newton import Descent
from worldprobe.probes._softmax import CodedBlock, Jobs, Pool, SoftmaxObjectives
from worldprobe.probes._survey import LabelledBlock, LabelledRows, Survey
from worldprobe.probes._validation import Floats

CURVATURE_ENTRIES = 2**26
"""Entries of all blocks of the curvature that are held at a time: what does not fit is solved later, in passes of its own."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """u = (x - shift) to_coordinates: features in which all rows have about unit covariance."""

    shift: Floats
    to_coordinates: Floats

    @classmethod
    def of(cls, survey: Survey, alpha: float) -> Coordinates:
        """Whiten the standardised features, those directions less that a penalty `alpha` holds anyway."""
        mean = survey.x / survey.n
        gram = survey.gram / survey.n - np.outer(mean, mean)
        scale = np.sqrt(np.maximum(gram.diagonal(), 0.0))
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        eigenvalues, vectors = np.linalg.eigh(gram * np.outer(inverse, inverse))
        return cls(survey.shift, inverse[:, None] * vectors / np.sqrt(np.maximum(eigenvalues, 0.0) + alpha))

    def code(self, block: LabelledBlock) -> CodedBlock:
        """Return a block in these coordinates, in the precision of X."""
        U = np.ones((len(block.X), len(self.shift) + 1), dtype=block.X.dtype)
        U[:, :-1] = (block.X - self.shift) @ self.to_coordinates
        mask = None if block.mask.all() else torch.from_numpy(np.ascontiguousarray(block.mask))
        return CodedBlock(torch.from_numpy(U), torch.from_numpy(np.ascontiguousarray(block.codes)), mask, block.fold)

    def pool(self, survey: Survey) -> Pool:
        """Return the sample of the rows in these coordinates."""
        blocks = [self.code(block) for block in survey.pool]
        masks = np.concatenate([block.mask for block in survey.pool])
        folds = torch.cat([torch.full((len(block.U),), block.fold) for block in blocks])
        return Pool(torch.cat([block.U for block in blocks]), folds, torch.from_numpy(masks))


@dataclass(frozen=True, eq=False)
class CodedRows:
    """All rows in the coordinates: kept if they are in memory, made anew in every pass if they are not."""

    rows: LabelledRows
    coordinates: Coordinates
    kept: list[CodedBlock] = field(default_factory=list)

    @classmethod
    def of(cls, rows: LabelledRows, coordinates: Coordinates, *, keep: bool) -> CodedRows:
        """Code the rows."""
        return cls(rows, coordinates, [coordinates.code(block) for block in rows] if keep else [])

    def __iter__(self) -> Iterator[CodedBlock]:
        """Yield all rows."""
        return iter(self.kept) if self.kept else (self.coordinates.code(block) for block in self.rows)


@dataclass(frozen=True, eq=False)
class LinearMap:
    """Logits offset + (x - shift) . coefficients of one head."""

    coefficients: Floats
    """(n_classes, n_features)"""
    offset: Floats
    """(n_classes,); minus infinity for a class without training rows."""


@dataclass(frozen=True, eq=False)
class SoftmaxPath:
    """The solutions of one training set."""

    maps: list[list[LinearMap]]
    """By head, then by penalty."""
    fold_losses: NDArray[np.float64]
    """Summed log-losses in nats (n_folds, n_alphas, n_heads) on the folds left out."""

    def losses(self, fold: int) -> Floats:
        """Return the summed log-loss in nats on a fold that was left out, (n_alphas, n_heads)."""
        losses: Floats = self.fold_losses[fold]
        return losses


class SoftmaxPaths:
    """All paths of some training sets, solved together.

    Parameters
    ----------
    rows : LabelledRows
        All rows.
    n_classes : sequence of int
        Classes of each head.
    alphas : ndarray
        Penalties, from the strongest to the weakest.
    tolerance : float
        Decrease of the objective, in nats per row, that no more step is taken for.
    training_sets : sequence of collections of int
        Folds that each training set leaves out.
    in_memory : bool
        Whether coordinates of all rows may be kept.
    """

    def __init__(
        self,
        rows: LabelledRows,
        n_classes: Sequence[int],
        alphas: Floats,
        tolerance: float,
        training_sets: Sequence[Collection[int]],
        *,
        in_memory: bool,
    ) -> None:
        self.n_folds, self.n_classes, self.alphas = rows.n_folds, n_classes, alphas
        self.training_sets = [frozenset(left_out) for left_out in training_sets]
        self.survey = Survey.of(rows, n_classes)
        for left_out in self.training_sets:
            check_training_rows(int(self.survey.counts_without(left_out).sum(axis=1).min()), left_out)
        self.coordinates = Coordinates.of(self.survey, float(alphas.min()))
        coded, pool = CodedRows.of(rows, self.coordinates, keep=in_memory), self.coordinates.pool(self.survey)
        everything = self._jobs(pool.U.dtype)
        shape = (len(self.training_sets), self.n_folds, len(alphas), len(n_classes))
        losses = np.zeros(shape)
        maps: dict[tuple[int, int], list[LinearMap]] = defaultdict(list)
        for chunk in self._chunks():
            jobs = everything.select(chunk, max(n_classes[head] for head in everything.head[chunk].tolist()))
            objectives = SoftmaxObjectives(coded, pool, jobs)
            descent = Descent(objectives, float(alphas[0]), tolerance)
            for row, alpha in enumerate(alphas):
                weights = descent.to(float(alpha))
                held_out = objectives.held_out_losses(weights).numpy()
                for job, own, loss in zip(chunk.tolist(), weights, held_out, strict=True):
                    training, head = divmod(job, len(n_classes))
                    losses[training, :, row, head] = loss
                    maps[training, head].append(self._raw(own, training, head))
        heads = range(len(n_classes))
        self._paths = {
            left_out: SoftmaxPath([maps[number, head] for head in heads], losses[number])
            for number, left_out in enumerate(self.training_sets)
        }

    def path(self, without: Collection[int]) -> SoftmaxPath:
        """Return the solutions of the training set of all folds but those in `without`."""
        return self._paths[frozenset(without)]

    def _jobs(self, dtype: torch.dtype) -> Jobs:
        """Return one job for each training set and head: job = training set x n_heads + head."""
        trained = [[fold not in left_out for fold in range(self.n_folds)] for left_out in self.training_sets]
        n_heads = len(self.n_classes)
        counts = np.concatenate([self.survey.counts_without(left_out) for left_out in self.training_sets])
        scales = np.concatenate([self.survey.moments_without(left_out)[1] for left_out in self.training_sets])
        everywhere = self.survey.moments_without(())[1].max(axis=0)
        distinct, penalty_of = np.unique(np.where(scales > 0, scales, everywhere), axis=0, return_inverse=True)
        weighted = distinct[:, :, None] * self.coordinates.to_coordinates
        return Jobs(
            torch.arange(n_heads).repeat(len(trained)),
            torch.tensor(trained).repeat_interleave(n_heads, dim=0),
            torch.from_numpy(counts),
            torch.from_numpy(weighted.transpose(0, 2, 1) @ weighted).to(dtype),
            torch.from_numpy(penalty_of.reshape(-1)),
        )

    def _chunks(self) -> list[Tensor]:
        """Return numbers of jobs to be solved together: heads of about equally many classes, as many as the memory takes."""
        by_size: dict[int, list[int]] = defaultdict(list)
        for head, n_classes in enumerate(self.n_classes):
            by_size[(n_classes - 1).bit_length()].append(head)
        width, chunks = len(self.coordinates.shift) + 1, []
        for heads in by_size.values():
            entries = max(self.n_classes[head] for head in heads) * width**2
            jobs = torch.tensor([training * len(self.n_classes) + head for training in range(len(self.training_sets)) for head in heads])
            chunks += list(torch.split(jobs, max(1, CURVATURE_ENTRIES // entries)))
        return chunks

    def _raw(self, weights: Tensor, training: int, head: int) -> LinearMap:
        """Return weights in coordinates as weights of raw features; those constant on the training set get none."""
        own = weights[: self.n_classes[head]].double().numpy()
        left_out = self.training_sets[training]
        mean, scale = (moment[head] for moment in self.survey.moments_without(left_out))
        coefficients = own[:, :-1] @ self.coordinates.to_coordinates.T
        constant = scale == 0
        offset = own[:, -1] + coefficients[:, constant] @ mean[constant]
        coefficients[:, constant] = 0.0
        absent = self.survey.counts_without(left_out)[head, : len(own)] == 0
        coefficients[absent], offset[absent] = 0.0, -np.inf
        return LinearMap(coefficients, offset)
