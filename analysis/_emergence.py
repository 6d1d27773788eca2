"""State emergence: what the hidden state adds to a floor, as a share of everything that can be known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._decoders import Decoder, Losses
from worldprobe.analysis._measurement import Cell, LossSums, Measurement, measure
from worldprobe.analysis._stream import Stream


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
    stream, ceiling, totals = floor.stream, bayes_losses(floor.stream), floor.stream.total()
    sums = {
        name: LossSums(
            stream.episode_sums(floor.losses[name]),
            stream.episode_sums(agent.losses[name]),
            None if ceiling is None else stream.episode_sums(ceiling[name]),
            totals[name],
            len(stream.scored),
        )
        for name in totals
    }
    return [measure(sums[factor.name], cell, factor, horizon=0) for factor in stream.labels.factors]


def bayes_losses(stream: Stream) -> Losses | None:
    """Return the squared error of the exact belief's prediction on the scored rows, or None without a filter."""
    if stream.expected is None:
        return None
    return stream.labels.losses(stream.targets[stream.scored], stream.expected[stream.scored])


def visits(stream: Stream) -> dict[str, tuple[float, int]]:
    """Return, for each categorical factor, exp(entropy of its visits) and the number of episodes that hold its rarest visited class."""
    targets, groups = stream.targets[stream.scored], stream.groups[stream.scored]
    columns = {factor.name: stream.labels.columns[factor.name] for factor in stream.labels.factors if factor.is_categorical}
    return {name: _visits(targets[:, chosen], groups) for name, chosen in columns.items()}


def _visits(one_hot: NDArray[np.float32], groups: NDArray[np.int64]) -> tuple[float, int]:
    """Effective number of classes, and the episodes of the rarest one."""
    visited = one_hot[:, one_hot.any(0)]
    frequency = visited.mean(0, dtype=np.float64)
    episodes = [len(np.unique(groups[column > 0])) for column in visited.T]
    return float(np.exp(-(frequency * np.log(frequency)).sum())), min(episodes)
