"""What an MLP probe needs to know of batches before it is trained on them, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldprobe.probes._coded_batches import CodedBatches, RealBatches
from worldprobe.probes._criteria import Criterion, Heads, LogLoss, SquaredError, Units, log_frequencies
from worldprobe.probes._labels import Labels
from worldprobe.probes._training_rows import StreamedTrainingRows, as_moments
from worldprobe.probes._validation import Floats

HELD_OUT = 0
"""The fold that training stops by."""

Read = Callable[[], Iterator[tuple[NDArray[Any], Criterion, int]]]


def coded_rows(batches: CodedBatches, seed: int, device: torch.device) -> tuple[StreamedTrainingRows, Floats, Heads]:
    """Return labelled rows to train on, the shift of their features, and what outputs mean."""

    def read() -> Iterator[tuple[NDArray[Any], Criterion, int]]:
        for block in batches:
            yield block.X, LogLoss.of_labels(Labels(block.codes, np.array(block.mask), batches.classes)), block.fold

    classes = LogLoss.of_labels(Labels(np.zeros((0, 1), np.int64), np.ones((0, 1), np.bool_), batches.classes)).classes
    counts = torch.zeros(classes.shape, dtype=torch.int64)
    for block in batches:
        if block.fold != HELD_OUT:
            counts += torch.stack([torch.bincount(own, minlength=classes.shape[1]) for own in torch.from_numpy(block.codes).T])
    rows, shift = _streamed(read, log_frequencies(counts, classes)[None], seed, device)
    return rows, shift, Heads(batches.classes)


def real_rows(batches: RealBatches, seed: int, device: torch.device) -> tuple[StreamedTrainingRows, Floats, Units]:
    """Return rows with real targets to train on, the shift of their features, and the units of their targets."""
    _, mean, scale, varies = _moments((Y, fold) for _, Y, fold in batches)
    if not varies.any():
        raise ValueError("every target is constant on the training rows, so there is nothing to decode (see `estimability`)")
    units = Units(mean, np.where(varies & (scale > 0), scale, 1.0), batches.flat)
    as_float = [torch.from_numpy(part.astype(np.float32))[None, None] for part in (units.mean, units.scale)]

    def read() -> Iterator[tuple[NDArray[Any], Criterion, int]]:
        for X, Y, fold in batches:
            yield X, SquaredError(torch.from_numpy(Y.astype(np.float32)), torch.ones(Y.shape, dtype=torch.bool), *as_float), fold

    rows, shift = _streamed(read, torch.zeros(1, len(mean), 1), seed, device)
    return rows, shift, units


def _streamed(read: Read, starts: Tensor, seed: int, device: torch.device) -> tuple[StreamedTrainingRows, Floats]:
    """Return rows whose features are standardised on those that are learned from, and their shift."""
    n, mean, scale, varies = _moments((X, fold) for X, _, fold in read())

    def blocks() -> Iterator[tuple[Tensor, Criterion, bool]]:
        for X, criterion, fold in read():
            yield torch.from_numpy((X - mean).astype(np.float32)).to(device), criterion.to(device), fold == HELD_OUT

    centred = as_moments(torch.zeros(1, len(mean), dtype=torch.float64), torch.from_numpy(scale)[None], torch.from_numpy(varies)[None])
    moments = (centred[0].to(device), centred[1].to(device))
    return StreamedTrainingRows(blocks, moments, starts.to(device), n, seed), mean


def _moments(parts: Iterator[tuple[NDArray[Any], int]]) -> tuple[int, Floats, Floats, NDArray[np.bool_]]:
    """Return number, mean and standard deviation of the rows that are learned from, and which columns vary."""
    n, shift = 0, None
    for values, fold in parts:
        if fold == HELD_OUT:
            continue
        rows = values.astype(np.float64)
        if shift is None:
            shift, low, high = rows.mean(axis=0), rows.min(axis=0), rows.max(axis=0)
            total, squares = np.zeros_like(shift), np.zeros_like(shift)
        n, total, squares = n + len(rows), total + (rows - shift).sum(axis=0), squares + np.square(rows - shift).sum(axis=0)
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    if shift is None:
        raise ValueError("training stops by held-out groups, so at least 2 groups are needed; got 1")
    mean = total / n
    return n, shift + mean, np.sqrt(np.maximum(squares / n - mean**2, 0.0)), low < high
