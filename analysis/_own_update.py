"""The own-update score: does the agent's update implement the Bayes update of its world under actions it would not choose?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldprobe.activations import Forks
from worldprobe.analysis._decoders import Losses
from worldprobe.analysis._labels import Array
from worldprobe.analysis._measurement import Cell, LossSums, Measurement, measure
from worldprobe.analysis._stream import Stream


@dataclass(frozen=True)
class Future:
    """Forks of a stream with the labels reached at each step and the exact filter's prediction of them.

    A fork whose episode ended has no state left to track, and everybody was told so: scores at step k are over the forks
    still alive at k, and the filter is conditioned on that as well, so it remains the ceiling.
    """

    stream: Stream
    forks: Forks
    targets: Array
    """(n_forks, horizon, width)"""
    expected: Array
    """(n_forks, horizon, width)"""

    @classmethod
    def of(cls, stream: Stream, forks: Forks) -> Future:
        """Encode what the forks reached."""
        return cls(stream, forks, stream.labels.encode(forks.factors), stream.labels.encode_expected(forks.expected))

    @property
    def horizon(self) -> int:
        """Number of forked steps."""
        return int(self.targets.shape[1])

    def ceiling(self) -> Losses:
        """Squared error of the exact filter after each forked step."""
        return self.stream.labels.losses(self.targets, self.expected)

    def loss_sums(self, floor: Losses, agent: Losses, ceiling: Losses, factor: str, step: int) -> LossSums:
        """Sum a factor's losses after `step` (1-based) forked steps over the forks of each episode that are alive there."""
        alive = np.flatnonzero(self.forks.alive[:, step - 1])
        floor_sums, agent_sums, ceiling_sums = (
            self.stream.episode_sums(losses[factor][alive, step - 1], self.forks.rows[alive]) for losses in (floor, agent, ceiling)
        )
        labels = self.targets[alive, step - 1][:, self.stream.labels.columns[factor]].astype(np.float64)
        total = float(np.square(labels - labels.mean(0)).sum()) if len(alive) else 0.0
        return LossSums(floor_sums, agent_sums, ceiling_sums, total, len(alive))


def own_update(future: Future, floor: Losses, agent: Losses, cell: Cell) -> list[Measurement]:
    r"""Measure E_model(k) = (L_floor(k) - L_own(k)) / (L_floor(k) - L_filter(k)) for every factor and every step k of the forks.

    L_own(k) = sum ||s'_{t+k} - D(h'_{t+k})||^2, where world and core were forked at t, stepped k times under actions drawn
    independently of the policy, and D was fitted on recorded (h_t, s_t) alone.

    Parameters
    ----------
    future
        The forks, their labels and the filter's predictions.
    floor, agent
        Losses (n_forks, horizon) per factor of the floor's and the agent's decoders on these forks.
    cell
        Where this is measured.

    Returns
    -------
    One measurement per factor and step.
    """
    ceiling = future.ceiling()
    return [
        measure(future.loss_sums(floor, agent, ceiling, factor.name, step), cell, factor, step)
        for factor in future.stream.labels.factors
        for step in range(1, future.horizon + 1)
    ]


def model_share(future: Future, floor: Losses, agent: Losses, factor: str, step: int) -> float:
    """Return the point value of E_model after `step` forked steps, NaN where the filter is no better than the floor."""
    sums = future.loss_sums(floor, agent, future.ceiling(), factor, step)
    assert sums.ceiling is not None
    room = sums.floor.sum() - sums.ceiling.sum()
    return float((sums.floor.sum() - sums.agent.sum()) / room) if room > 0 else float("nan")
