"""Small networks: many are trained as one batched network, a few are kept for prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(eq=False)
class Network:
    """Layers x -> relu -> ... -> outputs on inputs that are standardised first."""

    mean: Tensor
    """(1, n_features)"""
    inverse_scale: Tensor
    weights: list[Tensor]
    """(n_in, n_out) of each layer."""
    biases: list[Tensor]
    """(1, n_out) of each layer."""

    def hidden(self, X: Tensor) -> Tensor:
        """Return the last hidden layer (n, width) of inputs (n, n_features)."""
        activity = (X - self.mean) * self.inverse_scale
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            activity = torch.relu(torch.addmm(bias, activity, weight))
        return activity

    def outputs(self, X: Tensor) -> Tensor:
        """Return outputs (n, n_outputs) of inputs (n, n_features)."""
        return torch.addmm(self.biases[-1], self.hidden(X), self.weights[-1])


@dataclass(frozen=True)
class Job:
    """A network to be trained in every fold."""

    columns: tuple[int, ...]
    """Columns of Y that it answers for."""
    hidden: tuple[int, ...]
    """Widths of its hidden layers."""
    seed: int
    """Which of several initialisations it has."""


class BatchedNetwork:
    """J networks in each of F folds, as one: those of a fold see the same rows, and share the product with them.

    Narrower networks are padded with units whose weights are zero, which no gradient ever moves.

    Parameters
    ----------
    moments : tuple of Tensor
        Mean and inverse scale of the features on each fold's training rows, (F, 1, n_features).
    jobs : sequence of Job
        Of equal depth.
    starts : Tensor
        Outputs that the networks begin with, (F, J, D, width).
    seeds : sequence of int
        One for each fold; equal networks of a fold begin alike, whatever they answer for.
    """

    def __init__(self, moments: tuple[Tensor, Tensor], jobs: Sequence[Job], starts: Tensor, seeds: Sequence[int]) -> None:
        self.mean, self.inverse_scale = moments
        self.shape = starts.shape
        F, J = starts.shape[:2]
        n_features, device = self.mean.shape[2], starts.device
        widest = [max(widths) for widths in zip(*(job.hidden for job in jobs), strict=True)]
        sizes = [n_features, *widest]
        hidden = [torch.zeros(F, J, n_in, n_out) for n_in, n_out in pairwise(sizes)]
        for fold, seed in enumerate(seeds):
            drawn: dict[tuple[tuple[int, ...], int], list[Tensor]] = {}
            for number, job in enumerate(jobs):
                key = (job.hidden, job.seed)
                drawn.setdefault(key, _draw(n_features, job, seed))
                for layer, weight in zip(hidden, drawn[key], strict=True):
                    layer[fold, number, : weight.shape[0], : weight.shape[1]] = weight
        first = hidden[0].transpose(1, 2).reshape(F, n_features, J * widest[0])
        weights = [first, *(layer.flatten(0, 1) for layer in hidden[1:]), torch.zeros(F * J, widest[-1], starts[0, 0].numel())]
        biases = [torch.zeros(F, 1, J * widest[0]), *(torch.zeros(F * J, 1, width) for width in widest[1:])]
        self.weights = [weight.to(device).contiguous().requires_grad_() for weight in weights]
        self.biases = [bias.to(device).requires_grad_() for bias in [*biases, starts.reshape(F * J, 1, -1).clone()]]

    def parameters(self) -> list[Tensor]:
        """Return all trained tensors."""
        return [*self.weights, *self.biases]

    def outputs(self, X: Tensor, folds: slice = slice(None)) -> Tensor:
        """Return outputs (F, J, n, D, width) of the rows (F, n, n_features) of these folds."""
        J, D, width = self.shape[1:]
        members = slice(None) if folds == slice(None) else slice(folds.start * J, folds.stop * J)
        standardised = (X - self.mean[folds]) * self.inverse_scale[folds]
        wide = torch.relu(torch.baddbmm(self.biases[0][folds], standardised, self.weights[0][folds]))
        activity = wide.view(*wide.shape[:2], J, -1).transpose(1, 2).flatten(0, 1)
        for weight, bias in zip(self.weights[1:-1], self.biases[1:-1], strict=True):
            activity = torch.relu(torch.baddbmm(bias[members], activity, weight[members]))
        outputs = torch.baddbmm(self.biases[-1][members], activity, self.weights[-1][members])
        return outputs.view(len(X), J, -1, D, width)

    @torch.no_grad()
    def members(self) -> list[Tensor]:
        """Return every parameter by network, (F, J, ...); views."""
        F, J = self.shape[:2]
        first, bias = (part.view(F, -1, J, part.shape[2] // J).transpose(1, 2) for part in (self.weights[0], self.biases[0]))
        later = [[part.view(F, J, *part.shape[1:]) for part in parts[1:]] for parts in (self.weights, self.biases)]
        return [first, *later[0], bias, *later[1]]


class BestSoFar:
    """The weights of every network when its validation loss was lowest."""

    def __init__(self, network: BatchedNetwork) -> None:
        self._network = network
        self._kept = [part.clone() for part in network.members()]

    def keep(self, improved: Tensor) -> None:
        """Take over the networks that are better now, bool (F, J)."""
        for kept, now in zip(self._kept, self._network.members(), strict=True):
            kept[improved] = now[improved]

    def stack(self, fold: int, job: int) -> Network:
        """Return one network in float64, so that a prediction does not depend on the rows beside it."""
        chosen = [part[fold, job].detach().double().cpu().contiguous() for part in self._kept]
        half = len(chosen) // 2
        mean, inverse_scale = (moment[fold].double().cpu() for moment in (self._network.mean, self._network.inverse_scale))
        return Network(mean, inverse_scale, chosen[:half], chosen[half:])


def _draw(n_features: int, job: Job, seed: int) -> list[Tensor]:
    """Draw He-normal weights of the hidden layers."""
    generator = torch.Generator().manual_seed((seed + 7919 * job.seed) % 2**63)
    return [torch.randn(n_in, n_out, generator=generator) * (2.0 / n_in) ** 0.5 for n_in, n_out in pairwise((n_features, *job.hidden))]
