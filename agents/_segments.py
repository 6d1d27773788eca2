"""Rollouts cut at the ends of episodes, so that all of it runs through a fused kernel without a reset inside."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from worldprobe.agents._rollout import Rollout

CALL_OVERHEAD = 128
"""Padded steps that cost as much as one more call of a kernel, forward and backward (measured, LSTM of 64 and 256 units)."""


@dataclass(slots=True)
class SegmentBatch:
    """`n` unbroken segments, longest first, with a row after each for what followed it.

    The rows lie in stretches of time, in each of which a number of segments that falls from stretch to stretch is under way:
    a kernel runs over one stretch after the other, always with the segments that are left, so that little is padded.
    """

    env: Tensor
    """int64 (n,): the environment each segment comes from."""
    inputs: Tensor
    """float32 (n_rows, input_size): received inputs, stretch by stretch and step by step; after a segment's last step what followed."""
    stretches: list[tuple[int, int]]
    """(number of steps, number of segments) of every stretch."""
    core_state: Tensor
    """float32 (n, state_size): the core state before the first step."""
    action: Tensor
    """int64 (length, n)."""
    reward: Tensor
    """float32 (length, n), or (length, n, n_rewards); 0 in the padding."""
    terminated: Tensor
    """bool (length, n)."""
    is_last: Tensor
    """bool (length, n): the last step of its segment."""
    is_real: Tensor
    """bool (length, n): not padding."""
    row: Tensor
    """int64 (length, n): the step of the rollout, counted through environment 0, then 1, ..., that each entry is of."""
    place: Tensor
    """int64 (n_rows,): where each row lies on the grid (length + 1, n), counted row by row."""

    def on_grid(self, values: Tensor) -> Tensor:
        """Return values of rows (n_rows, ...) by step and segment, (length + 1, n, ...); 0 where there is no row."""
        length, n = self.action.shape
        grid = values.new_zeros((length + 1) * n, *values.shape[1:]).index_copy(0, self.place.to(values.device), values)
        return grid.view(length + 1, n, *values.shape[1:])


class Segments:
    """All segments of a rollout.

    A piece that goes on from the rollout before starts from the stored core state, every other one from zeros.

    Parameters
    ----------
    rollout : Rollout
        What to cut.
    n_parts : int
        In how many batches the environments will be asked for; stretches are those of least cost for these.
    """

    def __init__(self, rollout: Rollout, n_parts: int = 1) -> None:
        self._rollout = rollout
        begins = torch.ones_like(rollout.ended)
        begins[:, 1:] = rollout.ended[:, :-1]
        start = begins.flatten().nonzero().squeeze(1)  # rows count through env 0, then env 1, ...
        length = torch.diff(start, append=torch.tensor([begins.numel()]))
        self._length, order = length.sort(descending=True, stable=True)
        self._start = start[order]
        self._env = self._start // rollout.action.shape[1]
        self._borders = torch.tensor([0, *stretch_borders(length + 1, n_parts * CALL_OVERHEAD)])

    def batch(self, envs: Tensor | None = None) -> SegmentBatch:
        """Return the segments of some environments (at least one), by default of all."""
        chosen = slice(None) if envs is None else torch.isin(self._env, envs).nonzero().squeeze(1)
        start, length, env = self._start[chosen], self._length[chosen], self._env[chosen]
        longest = int(length[0])
        borders = self._borders.clamp(max=longest + 1)
        end = borders[torch.searchsorted(borders, length + 1)]  # of the last stretch that a segment is in
        stretches = [(high - low, int((end > low).sum())) for low, high in pairwise(borders.tolist()) if high > low]
        step = torch.arange(longest + 1).unsqueeze(1)
        place = (step < end).flatten().nonzero().squeeze(1)
        row = start + step[:longest].clamp(max=length - 1)  # padding repeats the last step
        is_real = step[:longest] < length
        rollout, n_steps = self._rollout, self._rollout.action.shape[1]
        return SegmentBatch(
            env=env,
            inputs=self._inputs(start, length, place),
            stretches=stretches,
            core_state=rollout.core_state[env] * (start % n_steps == 0).unsqueeze(1),
            action=rollout.action.flatten()[row],
            reward=rollout.reward.flatten(0, 1)[row] * is_real.view(*is_real.shape, *[1] * (rollout.reward.ndim - 2)),
            terminated=rollout.terminated.flatten()[row],
            is_last=step[:longest] == length - 1,
            is_real=is_real,
            row=row,
            place=place,
        )

    def _inputs(self, start: Tensor, length: Tensor, place: Tensor) -> Tensor:
        """Gather what was received, or followed, at places of the grid."""
        step, segment = place // len(start), place % len(start)
        row = start[segment] + torch.minimum(step, length[segment] - 1)
        inputs = self._rollout.inputs.flatten(0, 1)[row]
        followed = (step >= length[segment]).nonzero().squeeze(1)
        inputs[followed] = self._rollout.successors.flatten(0, 1)[row[followed]]
        return inputs


def stretch_borders(extent: Tensor, call_overhead: int) -> list[int]:
    """Return the ends of the stretches of time that cost least, ascending, for segments of so many rows each.

    A segment is padded to the first border at or beyond its extent; every stretch costs `call_overhead` rows more. Dynamic
    programming over the distinct extents, shortest first.
    """
    extents, count = torch.unique(extent, return_counts=True)
    total = torch.cat([torch.zeros(1, dtype=torch.int64), count.cumsum(0)])
    best, first = torch.zeros(len(extents) + 1, dtype=torch.int64), []
    for end in range(1, len(extents) + 1):
        cost = best[:end] + call_overhead + (total[end] - total[:end]) * extents[end - 1]
        first.append(int(cost.argmin()))
        best[end] = cost[first[-1]]
    borders, end = [], len(extents)
    while end:
        borders.append(int(extents[end - 1]))
        end = first[end - 1]
    return borders[::-1]
