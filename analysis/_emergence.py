"""State emergence: what the hidden state adds to a floor, as a share of everything that can be known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._decoders import Decoder, Losses
from worldprobe.analysis._measurement import Cell, LossSums, Measurement, Share, measure
from worldprobe.analysis._stream import Stream
from worldprobe.worlds import Factor

MIN_EPISODES = 30
"""Scored episodes below which nothing is said of a single class."""


@dataclass(frozen=True, eq=False)
class VisitCounts:
    """The classes of a factor that a stream visits."""

    classes: NDArray[np.int64]
    """Those visited, ascending (n_classes,)."""
    n_rows: NDArray[np.int64]
    """Rows of each (n_classes,)."""
    n_episodes: NDArray[np.int64]
    """Episodes of each (n_classes,)."""

    @classmethod
    def of(cls, classes: NDArray[np.int64], groups: NDArray[np.int64]) -> VisitCounts:
        """Count rows and episodes of the classes (n,) seen in the episodes `groups` (n,)."""
        visited, n_rows = np.unique(classes, return_counts=True)
        pairs = np.unique(np.stack([classes, groups], 1), axis=0)
        return cls(visited, n_rows, np.unique(pairs[:, 0], return_counts=True)[1])

    @property
    def effective(self) -> float:
        """Effective number of classes, exp of the entropy of the visits."""
        frequency = self.n_rows / self.n_rows.sum()
        return float(np.exp(-(frequency * np.log(frequency)).sum()))

    @property
    def n_rare(self) -> int:
        """Number of visited classes of which nothing is said by itself."""
        return int((self.n_episodes < MIN_EPISODES).sum())


def emergence(floor: Decoder, agent: Decoder, cell: Cell) -> list[Measurement]:
    r"""Measure E|F = (L_F - L_{F+h}) / (L_F - L_Bayes) of every factor's present value, cross-fitted over episodes.

    Parameters
    ----------
    floor
        Decoder of the floor F.
    agent
        Decoder of F joined with the hidden state, or of the hidden state alone (the quantity is then "replacement").
    cell
        Where this is measured.

    Returns
    -------
    One measurement per factor.
    """
    even = np.ones(len(floor.stream.scored))
    return [measure(_loss_sums(floor, agent, factor, even), cell, factor, horizon=0) for factor in floor.stream.labels.factors]


def reweighted_emergence(floor: Decoder, agent: Decoder, cell: Cell) -> list[Measurement]:
    r"""Measure E|F with every visited class of a factor counting the same, whatever the policy that visited them.

    Row i weighs 1 / n_c(i), n_c the rows of its class; the decoders stay as they are. Classes in fewer than `MIN_EPISODES`
    scored episodes are left out. A decision is never made on this score: it shows what uneven visits do to the plain one.

    Parameters
    ----------
    floor, agent, cell
        As in `emergence`.

    Returns
    -------
    One measurement per categorical factor.
    """
    stream, measured = floor.stream, []
    for factor in (factor for factor in stream.labels.factors if factor.is_categorical):
        classes = stream.targets[stream.scored][:, stream.labels.columns[factor.name]].argmax(1)
        weights = _even_weights(classes, stream.groups[stream.scored])
        measurement = measure(_loss_sums(floor, agent, factor, weights), cell, factor, horizon=0)
        if len(np.unique(classes[weights > 0])) < 2:
            measurement = replace(measurement, share=Share.none(f"fewer than two classes were visited in {MIN_EPISODES} episodes"))
        measured.append(measurement)
    return measured


def _loss_sums(floor: Decoder, agent: Decoder, factor: Factor, weights: NDArray[np.float64]) -> LossSums:
    """Sum a factor's weighted losses over episodes."""
    stream, ceiling = floor.stream, bayes_losses(floor.stream)
    labels = stream.targets[stream.scored][:, stream.labels.columns[factor.name]].astype(np.float64)
    mean = np.average(labels, axis=0, weights=weights) if weights.any() else labels.mean(0)
    return LossSums(
        stream.episode_sums(weights * floor.losses[factor.name]),
        stream.episode_sums(weights * agent.losses[factor.name]),
        None if ceiling is None else stream.episode_sums(weights * ceiling[factor.name]),
        float(weights @ np.square(labels - mean).sum(1)),
        int(np.count_nonzero(weights)),
    )


def _even_weights(classes: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return weights (n,) that give every class the same sum, 0 where a class is in too few episodes; their mean is about one."""
    counts = VisitCounts.of(classes, groups)
    share = np.where(counts.n_episodes >= MIN_EPISODES, 1.0 / counts.n_rows, 0.0)
    n_counted = max(1, np.count_nonzero(share))
    return np.asarray(share[np.searchsorted(counts.classes, classes)] * len(classes) / n_counted)


def bayes_losses(stream: Stream) -> Losses | None:
    """Return the squared error of the exact belief's prediction on the scored rows, or None without a filter."""
    if stream.expected is None:
        return None
    return stream.labels.losses(stream.targets[stream.scored], stream.expected[stream.scored])


def visits(stream: Stream) -> dict[str, VisitCounts]:
    """Return how evenly the classes of each categorical factor were visited on the scored rows."""
    targets, groups = stream.targets[stream.scored], stream.groups[stream.scored]
    columns = {factor.name: stream.labels.columns[factor.name] for factor in stream.labels.factors if factor.is_categorical}
    return {name: VisitCounts.of(targets[:, chosen].argmax(1), groups) for name, chosen in columns.items()}
