"""The two losses an MLP probe is trained by, and how its outputs answer in the units of Y."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from torch import Tensor

from worldprobe.probes._labels import Classes, Labels
from worldprobe.probes._losses import clip_probabilities
from worldprobe.probes._validation import Booleans, Floats, Integers, check_labelled, check_mask, check_real_targets


@dataclass(eq=False)
class SquaredError:
    """Mean squared error of the labels that exist, each target in units of its standard deviation on a member's training rows."""

    Y: Tensor
    """Targets in float32 (n, n_targets)."""
    mask: Tensor
    decoders: list[Units]
    """The units of each member."""

    @classmethod
    def of(cls, X: NDArray[Any], Y: ArrayLike, mask: ArrayLike | None, members: Sequence[Integers]) -> SquaredError:
        """Take targets, which must vary within each member's rows."""
        given = check_real_targets(X, Y)
        targets = given.reshape(len(X), -1)
        known = check_labelled(check_mask(mask, targets.shape))
        decoders = [Units.of(targets[rows], known[rows], given.ndim == 1) for rows in members]
        return cls(torch.from_numpy(targets.astype(np.float32)), torch.from_numpy(known.copy()), decoders)

    @property
    def width(self) -> int:
        """One output per target."""
        return self.Y.shape[1]

    def start(self, rows: Tensor, member: int) -> Tensor:
        """Return the mean of each target, which is zero in its unit."""
        return torch.zeros(self.width)

    def losses(self, outputs: Tensor, rows: Tensor, members: slice) -> Tensor:
        """Return the mean loss of each member."""
        mean = torch.tensor(np.stack([units.mean for units in self.decoders[members]]), dtype=torch.float32)[:, None]
        scale = torch.tensor(np.stack([units.scale for units in self.decoders[members]]), dtype=torch.float32)[:, None]
        known = self.mask[rows]
        return ((outputs - (self.Y[rows] - mean) / scale) ** 2 * known).sum((1, 2)) / known.sum((1, 2)).clamp_min(1)


@dataclass(frozen=True, eq=False)
class Units:
    """Mean and standard deviation of each target on the training rows."""

    mean: Floats
    scale: Floats
    flat: bool

    @classmethod
    def of(cls, Y: Floats, known: Booleans, flat: bool) -> Units:
        """Measure targets (n, n_targets) where they are known; one that is constant keeps its unit."""
        low, high = np.min(Y, axis=0, where=known, initial=np.inf), np.max(Y, axis=0, where=known, initial=-np.inf)
        if not np.any(low < high):
            raise ValueError("every target is constant on the training rows, so there is nothing to decode (see `estimability`)")
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.sum(Y, axis=0, where=known) / count
        scale = np.sqrt(np.sum((Y - mean) ** 2, axis=0, where=known) / count)
        return cls(mean, np.where((low < high) & (scale > 0), scale, 1.0), flat)

    def predict(self, outputs: Floats) -> Floats:
        """Return predictions, shaped as Y was."""
        predictions: Floats = outputs * self.scale + self.mean
        return predictions[:, 0] if self.flat else predictions


@dataclass(eq=False)
class LogLoss:
    """Mean negative log-probability, in nats, of the labels that exist."""

    codes: Tensor
    """Class codes (n, n_heads)."""
    mask: Tensor
    decoders: list[Heads]
    """The classes of the heads; the same for every member."""

    @classmethod
    def of(cls, X: NDArray[Any], Y: ArrayLike, mask: ArrayLike | None, members: Sequence[Integers]) -> LogLoss:
        """Take labels, of two classes or more within each member's rows."""
        labels = Labels.of(X, Y, mask)
        labels.check_training_sets(members)
        return cls(torch.from_numpy(labels.codes), torch.from_numpy(labels.mask.copy()), [Heads(labels.classes)] * len(members))

    @property
    def width(self) -> int:
        """One output per class of each head."""
        return sum(self.decoders[0].n_classes)

    def start(self, rows: Tensor, member: int) -> Tensor:
        """Return the logarithms of the class frequencies (each class counted once more)."""
        codes, known = self.codes[rows], self.mask[rows]
        heads = enumerate(self.decoders[member].n_classes)
        counts = [torch.bincount(codes[known[:, head], head], minlength=n_classes) + 1 for head, n_classes in heads]
        return torch.cat([torch.log(count / count.sum()) for count in counts])

    def losses(self, outputs: Tensor, rows: Tensor, members: slice) -> Tensor:
        """Return the mean loss of each member."""
        codes, known = self.codes[rows], self.mask[rows]
        heads = torch.split(outputs, self.decoders[members][0].n_classes, dim=2)
        own = [head.log_softmax(2).gather(2, codes[..., number, None])[..., 0] for number, head in enumerate(heads)]
        return -(torch.stack(own, dim=2) * known).sum((1, 2)) / known.sum((1, 2)).clamp_min(1)


@dataclass(frozen=True, eq=False)
class Heads:
    """Outputs that are logits, the classes of one head after those of another."""

    classes: Classes

    @property
    def n_classes(self) -> list[int]:
        """Number of classes of each head."""
        return [len(classes) for classes in self.classes.heads]

    def predict(self, outputs: Floats) -> NDArray[Any]:
        """Return the most probable labels, shaped as Y was."""
        return self.classes.most_probable(self._by_head(outputs))

    def probabilities(self, outputs: Floats) -> Any:
        """Return probabilities (n, n_classes), none below the floor; a list of one array per head if Y had columns."""
        return self.classes.answer([clip_probabilities(softmax(head, axis=1))[0] for head in self._by_head(outputs)])

    def clipped_mass(self, outputs: Floats) -> Floats:
        """Return the mean mass per row that the floor adds, for each head (n_heads,)."""
        return np.array([clip_probabilities(softmax(head, axis=1))[1] for head in self._by_head(outputs)])

    def _by_head(self, outputs: Floats) -> list[Floats]:
        """Return the logits of each head."""
        return np.split(outputs, np.cumsum(self.n_classes)[:-1], axis=1)
