"""Training many networks at once: batches, steps, and when each of them was best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from worldprobe.probes._network import BatchedNetwork, BestSoFar, Job
from worldprobe.probes._validation import Floats, Integers

VALIDATION_ENTRIES = 2**24
"""Hidden activities that a validation pass holds at a time."""


@dataclass(frozen=True)
class Schedule:
    """How networks are trained, all of them alike."""

    batch_size: int
    """At most an eighth of the training rows is taken, so that few rows still give steps."""
    learning_rate: float
    """Of the first step; it falls linearly to zero over `max_epochs`."""
    weight_decay: float
    max_epochs: int
    patience: int
    """Epochs without a lower validation loss after which a network is finished."""


Losses = Callable[[Tensor, Tensor], Tensor]
"""Of outputs (F, J, n, D, width) of networks with columns (J, D): their mean losses (F, J)."""


class TrainingRows(Protocol):
    """Rows of F folds, to learn from and to stop by."""

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and inverse scale of the features on each fold's training rows, (F, 1, n_features)."""

    @property
    def starts(self) -> Tensor:
        """Best constant outputs (F, n_columns, width)."""

    def n_batches(self, batch_size: int) -> int:
        """Return the steps of an epoch."""

    def batches(self, batch_size: int, epoch: int) -> Iterator[tuple[Tensor, Losses]]:
        """Yield one epoch: rows (F, n, n_features) and the losses of outputs on them."""

    def validation(self, n_rows: int) -> Iterator[tuple[slice, Tensor, Losses, Tensor]]:
        """Yield the rows to stop by, of one fold at a time: folds, rows, losses, and the labels of each column among them."""


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks at their least validation loss."""

    jobs: Sequence[Job]
    best: BestSoFar
    losses: Floats
    """Least validation loss (F, J)."""
    epochs: Integers
    """Epochs until then (F, J); 0: never better than the constants."""


def train_networks(rows: TrainingRows, jobs: Sequence[Job], schedule: Schedule, seeds: Sequence[int]) -> Trained:
    """Train jobs of equal depth in every fold, with equal batches and steps, each until its own validation loss stops falling."""
    columns = torch.tensor([job.columns for job in jobs], device=rows.starts.device)
    network = BatchedNetwork(rows.moments, jobs, rows.starts[:, columns], seeds)
    best, lowest = BestSoFar(network), _validation_losses(network, rows, columns)
    best_epoch = np.zeros(lowest.shape, np.int64)
    optimiser = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True)
    n_steps, step = schedule.max_epochs * rows.n_batches(schedule.batch_size), 0
    for epoch in range(1, schedule.max_epochs + 1):
        for X, losses in rows.batches(schedule.batch_size, epoch):
            optimiser.param_groups[0]["lr"] = schedule.learning_rate * (1 - step / n_steps)
            optimiser.zero_grad()
            torch.autograd.backward(losses(network.outputs(X), columns).sum())
            optimiser.step()
            step += 1
        now = _validation_losses(network, rows, columns)
        improved = (now < lowest) & (epoch - best_epoch <= schedule.patience)
        lowest, best_epoch = np.where(improved, now, lowest), np.where(improved, epoch, best_epoch)
        best.keep(torch.from_numpy(improved).to(columns.device))
        if not np.any(epoch - best_epoch < schedule.patience):
            break
    return Trained(jobs, best, lowest, best_epoch)


@torch.no_grad()
def _validation_losses(network: BatchedNetwork, rows: TrainingRows, columns: Tensor) -> Floats:
    """Return the loss of every network (F, J) on the rows that its fold stops by."""
    summed, n_labels = torch.zeros(2, *network.shape[:2], dtype=torch.float64, device=columns.device)
    for folds, X, losses, counts in rows.validation(max(64, VALIDATION_ENTRIES // network.weights[0].shape[2])):
        here = counts[columns].sum(1)
        summed[folds] += here * losses(network.outputs(X, folds), columns)
        n_labels[folds] += here
    means: Floats = (summed / n_labels.clamp_min(1)).cpu().numpy()
    return means
