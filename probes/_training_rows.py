"""Rows that networks learn from: in memory for several folds at once, or in batches that come again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from worldprobe.probes._criteria import Criterion
from worldprobe.probes._training import Losses


class ArrayTrainingRows:
    """Rows in memory.

    Parameters
    ----------
    X : Tensor
        float32 (n, n_features).
    criterion : Criterion
        Holds the labels of all rows.
    train, validation : sequence of Tensor
        Rows of each fold to learn from, and to stop by.
    seeds : sequence of int
        Of each fold's order of rows.
    """

    def __init__(
        self, X: Tensor, criterion: Criterion, train: Sequence[Tensor], validation: Sequence[Tensor], seeds: Sequence[int]
    ) -> None:
        self._X, self._criterion, self._train, self._validation, self._seeds = X, criterion, train, validation, seeds
        parts = [X[rows].double() for rows in train]
        mean, scale = torch.stack([part.mean(0) for part in parts]), torch.stack([part.std(0, correction=0) for part in parts])
        varies = torch.stack([part.amax(0) > part.amin(0) for part in parts])
        self.moments = as_moments(mean, scale, varies)
        self.starts = torch.stack([criterion.start(rows, fold) for fold, rows in enumerate(train)])

    def _batch(self, batch_size: int) -> int:
        return min(batch_size, -(-max(map(len, self._train)) // 8))

    def n_batches(self, batch_size: int) -> int:
        """Return the steps of an epoch: the longest fold is gone through once."""
        return -(-max(map(len, self._train)) // self._batch(batch_size))

    def batches(self, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, Losses]]:
        """Yield one epoch, in a new order. Folds with fewer rows begin theirs again."""
        batch, n = self._batch(batch_size), self._batch(batch_size) * self.n_batches(batch_size)
        orders = []
        for rows, seed in zip(self._train, self._seeds, strict=True):
            order = torch.randperm(len(rows), generator=_generator(seed, epoch)).to(rows.device)
            orders.append(rows[order.repeat(-(-n // len(rows)))[:n]])
        for rows in torch.split(torch.stack(orders), batch, dim=1):
            yield self._X[rows], partial(_losses, self._criterion, rows, slice(None))

    def validation(self, n_rows: int) -> Iterator[tuple[slice, Tensor, Losses, Tensor]]:
        """Yield the rows to stop by."""
        for fold, rows in enumerate(self._validation):
            folds = slice(fold, fold + 1)
            for part in torch.split(rows, n_rows):
                yield folds, self._X[part][None], partial(_losses, self._criterion, part[None], folds), self._criterion.mask[part].sum(0)


class StreamedTrainingRows:
    """Rows of one fold that come in blocks, again and again the same; batches are drawn within a block.

    Parameters
    ----------
    blocks : callable
        Returns an iterator over (X, criterion of its labels, whether to stop by it or to learn from it); one block is held at a time.
    moments, starts
        As `TrainingRows` has them.
    n_rows : int
        Rows to learn from.
    seed : int
        Of the order within blocks.
    """

    def __init__(
        self,
        blocks: Callable[[], Iterator[tuple[Tensor, Criterion, bool]]],
        moments: tuple[Tensor, Tensor],
        starts: Tensor,
        n_rows: int,
        seed: int,
    ) -> None:
        self._blocks, self._n_rows, self._seed = blocks, n_rows, seed
        self.moments, self.starts = moments, starts

    def n_batches(self, batch_size: int) -> int:
        """Return the steps of an epoch, about."""
        return -(-self._n_rows // min(batch_size, -(-self._n_rows // 8)))

    def batches(self, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, Losses]]:
        """Yield one epoch; the last batch of a block is smaller."""
        batch = min(batch_size, -(-self._n_rows // 8))
        generator = _generator(self._seed, epoch)
        for X, criterion, is_held in self._blocks():
            if not is_held:
                for rows in torch.split(torch.randperm(len(X), generator=generator).to(X.device), batch):
                    yield X[rows][None], partial(_losses, criterion, rows[None], slice(None))

    def validation(self, n_rows: int) -> Iterator[tuple[slice, Tensor, Losses, Tensor]]:
        """Yield the rows to stop by."""
        for X, criterion, is_held in self._blocks():
            for rows in torch.split(torch.arange(len(X), device=X.device), n_rows) if is_held else ():
                yield slice(0, 1), X[rows][None], partial(_losses, criterion, rows[None], slice(None)), criterion.mask[rows].sum(0)


def as_moments(mean: Tensor, scale: Tensor, varies: Tensor) -> tuple[Tensor, Tensor]:
    """Return float32 mean and inverse scale (F, 1, n_features), zero where a feature does not vary, from float64 (F, n_features)."""
    inverse = torch.where(varies & (scale > 0), 1.0 / scale.clamp_min(float(np.finfo(np.float64).tiny)), 0.0)
    return mean.float()[:, None], inverse.float()[:, None]


def _generator(seed: int, epoch: int) -> torch.Generator:
    """Return the source of an epoch's order."""
    return torch.Generator().manual_seed((seed + 104_729 * epoch) % 2**63)


def _losses(criterion: Criterion, rows: Tensor, folds: slice, outputs: Tensor, columns: Tensor) -> Tensor:
    """Return the criterion's losses of outputs on some rows."""
    return criterion.losses(outputs, rows, columns, folds)
