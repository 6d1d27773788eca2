"""The two losses an MLP probe is trained by, and how its outputs answer in the units of Y."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from torch import Tensor

from worldprobe.probes._labels import Classes, Labels
from worldprobe.probes._losses import clip_probabilities
from worldprobe.probes._validation import Booleans, Floats, Integers, check_labelled, check_mask, check_real_targets


class Criterion(Protocol):
    """What networks are trained to lower. A column of Y has `width` outputs."""

    mask: Tensor
    """Which labels exist, bool (n, n_columns)."""

    @property
    def width(self) -> int:
        """Outputs of a column: 1, or as many as the column of most classes has."""

    def to(self, device: torch.device) -> Criterion:
        """Return the same on a device."""

    def start(self, rows: Tensor, fold: int) -> Tensor:
        """Return the best constant outputs (n_columns, width) on a fold's training rows."""

    def losses(self, outputs: Tensor, rows: Tensor, columns: Tensor, folds: slice) -> Tensor:
        """Return mean losses (F, J) of outputs (F, J, n, D, width), on rows (F, n), of networks that answer for columns (J, D)."""


@dataclass(eq=False)
class SquaredError:
    """Mean squared error of the labels that exist, each target in units of its standard deviation on a fold's training rows."""

    Y: Tensor
    """Targets in float32 (n, n_targets)."""
    mask: Tensor
    mean: Tensor
    """Of each fold's training rows, float32 (F, 1, n_targets)."""
    scale: Tensor

    @classmethod
    def of(cls, X: NDArray[Any], Y: ArrayLike, mask: ArrayLike | None, members: Sequence[Integers]) -> tuple[SquaredError, list[Units]]:
        """Take targets, which must vary within each training set's rows; return the criterion, and the units of each training set."""
        given = check_real_targets(X, Y)
        targets = given.reshape(len(X), -1)
        known = check_labelled(check_mask(mask, targets.shape))
        units = [Units.of(targets[rows], known[rows], given.ndim == 1) for rows in members]
        mean, scale = (
            torch.tensor(np.stack(part), dtype=torch.float32)[:, None] for part in zip(*((u.mean, u.scale) for u in units), strict=True)
        )
        return cls(torch.from_numpy(targets.astype(np.float32)), torch.from_numpy(known.copy()), mean, scale), units

    @property
    def width(self) -> int:
        """One output per target."""
        return 1

    def to(self, device: torch.device) -> SquaredError:
        """Return the same on a device."""
        return SquaredError(*(part.to(device) for part in (self.Y, self.mask, self.mean, self.scale)))

    def start(self, rows: Tensor, fold: int) -> Tensor:
        """Return the mean of each target, which is zero in its unit."""
        return torch.zeros(self.Y.shape[1], 1, device=self.Y.device)

    def losses(self, outputs: Tensor, rows: Tensor, columns: Tensor, folds: slice) -> Tensor:
        """Return the mean loss of every network."""
        targets = (self.Y[rows] - self.mean[folds]) / self.scale[folds]
        return _mean_over_labels((outputs[..., 0] - _of_columns(targets, columns)) ** 2, self.mask[rows], columns)


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
        """Return predictions of outputs (n, n_targets, 1), shaped as Y was."""
        predictions: Floats = outputs[..., 0] * self.scale + self.mean
        return predictions[:, 0] if self.flat else predictions


@dataclass(eq=False)
class LogLoss:
    """Mean negative log-probability, in nats, of the labels that exist."""

    codes: Tensor
    """Class codes (n, n_heads)."""
    mask: Tensor
    classes: Tensor
    """Which outputs of a head are classes of it, bool (n_heads, width)."""

    @classmethod
    def of(cls, X: NDArray[Any], Y: ArrayLike, mask: ArrayLike | None, members: Sequence[Integers]) -> tuple[LogLoss, list[Heads]]:
        """Take labels, of two classes or more within each training set's rows; return the criterion, and the classes once for each."""
        labels = Labels.of(X, Y, mask)
        labels.check_training_sets(members)
        return cls.of_labels(labels), [Heads(labels.classes)] * len(members)

    @classmethod
    def of_labels(cls, labels: Labels) -> LogLoss:
        """Take labels that were checked."""
        counts = torch.tensor(labels.n_classes)
        classes = torch.arange(int(counts.max())) < counts[:, None]
        return cls(torch.from_numpy(labels.codes), torch.from_numpy(labels.mask.copy()), classes)

    @property
    def width(self) -> int:
        """Classes of the head that has most."""
        return int(self.classes.shape[1])

    def to(self, device: torch.device) -> LogLoss:
        """Return the same on a device."""
        return LogLoss(*(part.to(device) for part in (self.codes, self.mask, self.classes)))

    def start(self, rows: Tensor, fold: int) -> Tensor:
        """Return the logarithms of the class frequencies (each class counted once more)."""
        codes, known = self.codes[rows], self.mask[rows]
        counts = [torch.bincount(own[labelled], minlength=self.width) for own, labelled in zip(codes.T, known.T, strict=True)]
        return log_frequencies(torch.stack(counts), self.classes)

    def losses(self, outputs: Tensor, rows: Tensor, columns: Tensor, folds: slice) -> Tensor:
        """Return the mean loss of every network."""
        codes, possible = _of_columns(self.codes[rows], columns), self.classes[columns][None, :, None]
        if not bool(self.classes.all()):
            outputs = outputs.masked_fill(~possible, -torch.inf)
        own = outputs.gather(-1, codes[..., None])[..., 0]
        return _mean_over_labels(outputs.logsumexp(-1) - own, self.mask[rows], columns)


def log_frequencies(counts: Tensor, classes: Tensor) -> Tensor:
    """Return the logarithms of class frequencies, each class counted once more, from counts (n_heads, width); 0 where there is no class."""
    shares = (counts + 1.0) * classes
    return torch.where(classes, (shares / shares.sum(1, keepdim=True)).log(), 0.0)


@dataclass(frozen=True, eq=False)
class Heads:
    """Outputs that are logits, of as many classes as each head has."""

    classes: Classes

    @property
    def n_classes(self) -> list[int]:
        """Number of classes of each head."""
        return [len(classes) for classes in self.classes.heads]

    def predict(self, outputs: Floats) -> NDArray[Any]:
        """Return the most probable labels of outputs (n, n_heads, width), shaped as Y was."""
        return self.classes.most_probable(self._by_head(outputs))

    def probabilities(self, outputs: Floats) -> Any:
        """Return probabilities (n, n_classes), none below the floor; a list of one array per head if Y had columns."""
        return self.classes.answer([clip_probabilities(softmax(head, axis=1))[0] for head in self._by_head(outputs)])

    def clipped_mass(self, outputs: Floats) -> Floats:
        """Return the mean mass per row that the floor adds, for each head (n_heads,)."""
        return np.array([clip_probabilities(softmax(head, axis=1))[1] for head in self._by_head(outputs)])

    def _by_head(self, outputs: Floats) -> list[Floats]:
        """Return the logits of each head."""
        return [outputs[:, head, :n_classes] for head, n_classes in enumerate(self.n_classes)]


def _of_columns(values: Tensor, columns: Tensor) -> Tensor:
    """Return values (F, n, n_columns) of the columns (J, D) of every network, (F, J, n, D)."""
    F, n, _ = values.shape
    return values[..., columns.flatten()].view(F, n, *columns.shape).transpose(1, 2)


def _mean_over_labels(losses: Tensor, mask: Tensor, columns: Tensor) -> Tensor:
    """Return the mean of losses (F, J, n, D) where labels exist (F, n, n_columns), (F, J)."""
    if bool(mask.all()):
        return losses.mean((2, 3))
    known = _of_columns(mask, columns)
    return (losses * known).sum((2, 3)) / known.sum((2, 3)).clamp_min(1)
