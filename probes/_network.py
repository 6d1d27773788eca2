"""A stack of small networks of one shape, trained side by side as one batched network.

Member e has its own rows, weights, standardisation, order of batches and end of training; what the members share is the matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from worldprobe.probes._validation import Integers


class Criterion(Protocol):
    """What a stack of networks is trained to lower."""

    @property
    def width(self) -> int:
        """Outputs of each network."""

    def start(self, rows: Tensor, member: int) -> Tensor:
        """Return the best constant outputs (width,) on a member's training rows."""

    def losses(self, outputs: Tensor, rows: Tensor, members: slice) -> Tensor:
        """Return the mean loss of each of these members (e,) for its outputs (e, n, width) on its rows (e, n)."""


@dataclass(frozen=True)
class Schedule:
    """How a network is trained."""

    batch_size: int
    """At most an eighth of the training rows is taken, so that few rows still give steps."""
    learning_rate: float
    """Of the first step; it falls linearly to zero over `max_epochs`."""
    weight_decay: float
    max_epochs: int
    patience: int
    """Epochs without a lower validation loss after which a member ends."""


@dataclass(eq=False)
class NetworkStack:
    """Networks x -> relu -> ... -> outputs on standardised inputs; every tensor has a leading axis of members."""

    mean: Tensor
    inverse_scale: Tensor
    weights: list[Tensor]
    biases: list[Tensor]

    @classmethod
    def initial(
        cls, X: Tensor, criterion: Criterion, train_rows: Sequence[Tensor], hidden: Sequence[int], generators: Sequence[torch.Generator]
    ) -> NetworkStack:
        """Standardise on each member's training rows; draw He-normal hidden weights from its own generator.

        Outputs start as the best constants, so that what cannot be learned is answered by them.
        """
        parts = [X[rows].double() for rows in train_rows]
        mean = torch.stack([part.mean(0) for part in parts])
        scale = torch.stack([part.std(0, correction=0) for part in parts])
        varies = torch.stack([part.amax(0) > part.amin(0) for part in parts]) & (scale > 0)
        inverse_scale = torch.where(varies, 1.0 / scale.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
        weights, biases = [], []
        for n_in, n_out in pairwise((X.shape[1], *hidden)):
            drawn = [torch.randn(n_in, n_out, generator=generator) * (2.0 / n_in) ** 0.5 for generator in generators]
            weights.append(torch.stack(drawn))
            biases.append(torch.zeros(len(drawn), 1, n_out))
        weights.append(torch.zeros(len(parts), hidden[-1], criterion.width))
        biases.append(torch.stack([criterion.start(rows, member) for member, rows in enumerate(train_rows)])[:, None])
        return cls(mean.float()[:, None], inverse_scale.float()[:, None], weights, biases)

    def member(self, number: int) -> NetworkStack:
        """Return a copy of one member, as a stack of one."""
        chosen = slice(number, number + 1)
        parts = [[layer[chosen].detach().clone() for layer in layers] for layers in (self.weights, self.biases)]
        return NetworkStack(self.mean[chosen].clone(), self.inverse_scale[chosen].clone(), *parts)

    def double(self) -> NetworkStack:
        """Return the same networks in float64, so that a prediction does not depend on the rows beside it."""
        parts = [[layer.double() for layer in layers] for layers in (self.weights, self.biases)]
        return NetworkStack(self.mean.double(), self.inverse_scale.double(), *parts)

    def keep(self, number: int, other: NetworkStack) -> None:
        """Overwrite one member by the same member of another stack."""
        for mine, theirs in zip(self.parameters(), other.parameters(), strict=True):
            mine[number] = theirs[number].detach()

    def parameters(self) -> list[Tensor]:
        """Return all trained tensors."""
        return [*self.weights, *self.biases]

    def hidden(self, X: Tensor) -> Tensor:
        """Return the last hidden layer (members, n, width) of inputs (members, n, n_features)."""
        activity = (X - self.mean) * self.inverse_scale
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            activity = torch.relu(torch.baddbmm(bias, activity, weight))
        return activity

    def outputs(self, X: Tensor) -> Tensor:
        """Return outputs (members, n, width)."""
        return torch.baddbmm(self.biases[-1], self.hidden(X), self.weights[-1])


def train_networks(
    X: Tensor,
    criterion: Criterion,
    train_rows: Sequence[Tensor],
    validation_rows: Sequence[Tensor],
    hidden: Sequence[int],
    schedule: Schedule,
    seeds: Sequence[int],
) -> tuple[NetworkStack, Integers]:
    """Train one network per member; return them as they were at their least validation loss, and after how many epochs (0: never better).

    `X` is float32 (n, n_features); member e learns from `train_rows[e]` and stops by `validation_rows[e]`; all that is random in it
    follows from `seeds[e]`.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    networks = NetworkStack.initial(X, criterion, train_rows, hidden, generators)
    best = NetworkStack(networks.mean, networks.inverse_scale, *[[t.clone() for t in ts] for ts in (networks.weights, networks.biases)])
    lowest = np.array([_validation_loss(networks.member(e), X, criterion, rows, e) for e, rows in enumerate(validation_rows)])
    best_epoch = np.zeros(len(seeds), np.int64)
    for parameter in networks.parameters():
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(networks.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    longest = max(len(rows) for rows in train_rows)
    batch = min(schedule.batch_size, -(-longest // 8))
    n_batches = -(-longest // batch)
    rate = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=schedule.max_epochs * n_batches)
    for epoch in range(1, schedule.max_epochs + 1):
        for rows in _batches(train_rows, n_batches, batch, generators):
            optimiser.zero_grad()
            torch.autograd.backward(criterion.losses(networks.outputs(X[rows]), rows, slice(None)).sum())
            optimiser.step()
            rate.step()
        for number in range(len(seeds)):
            if epoch - best_epoch[number] > schedule.patience:
                continue
            loss = _validation_loss(networks.member(number), X, criterion, validation_rows[number], number)
            if loss < lowest[number]:
                lowest[number], best_epoch[number] = loss, epoch
                best.keep(number, networks)
        if not np.any(epoch - best_epoch < schedule.patience):
            break
    return best, best_epoch


def _batches(train_rows: Sequence[Tensor], n_batches: int, batch: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Return one epoch of row numbers (n_batches, members, batch). Members with fewer rows begin their rows again."""
    n = n_batches * batch
    epoch = []
    for rows, generator in zip(train_rows, generators, strict=True):
        order = torch.randperm(len(rows), generator=generator)
        epoch.append(rows[order.repeat(-(-n // len(rows)))[:n]])
    return torch.stack(epoch, dim=1).reshape(n_batches, batch, -1).transpose(1, 2)


@torch.no_grad()
def _validation_loss(network: NetworkStack, X: Tensor, criterion: Criterion, rows: Tensor, number: int) -> float:
    """Return the loss of member `number`, given as a stack of one, on its validation rows."""
    return float(criterion.losses(network.outputs(X[rows][None]), rows[None], slice(number, number + 1)))
