"""Rollouts cut at the ends of episodes, and laid one piece behind another so that a kernel runs over all of them in one call."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.agents._rollout import Rollout

STEP_OVERHEAD = 16
"""Rows that take about as long as one more step of a kernel does: in truth fewer for an LSTM, more for a small GRU."""
SHARES = tuple(1 + tenths / 10 for tenths in range(13))
"""Heights of the lanes that are tried, as multiples of the longest segment's."""


@dataclass(slots=True)
class SegmentBatch:
    """`n` unbroken segments, longest first, each with a row for what followed it, in lanes that a kernel runs over side by side.

    In a lane a gap of one row, in which the core forgets, lies between a segment and the next.
    """

    env: Tensor
    """int64 (n,): the environment each segment comes from."""
    inputs: Tensor
    """float32 (height, n_lanes, input_size): received inputs; after a segment's last step what followed; zeros in gaps."""
    gap: Tensor | None
    """bool (height, n_lanes): rows that are of no segment. None: no lane holds two, so there is nothing to forget."""
    core_state: Tensor
    """float32 (n_lanes, state_size): the core state before each lane's first row."""
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
    cell: Tensor
    """int64 (n_rows,): where it lies in the lanes (height, n_lanes), counted row by row."""

    def on_grid(self, values: Tensor) -> Tensor:
        """Return values of lanes (height, n_lanes, ...) by step and segment, (length + 1, n, ...); 0 where there is no row."""
        length, n = self.action.shape
        rows = values.flatten(0, 1).index_select(0, self.cell.to(values.device))
        grid = values.new_zeros((length + 1) * n, *values.shape[2:]).index_copy(0, self.place.to(values.device), rows)
        return grid.view(length + 1, n, *values.shape[2:])


class Segments:
    """All segments of a rollout.

    A piece that goes on from the rollout before starts from the stored core state, every other one from zeros.

    Parameters
    ----------
    rollout : Rollout
        What to cut.
    n_parts : int
        In how many batches the environments will be asked for; the lanes are as high as costs least for one of these.
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
        self._goes_on = (self._start % rollout.action.shape[1] == 0) & rollout.core_state.any(1)[self._env]
        like_a_part = self._env < math.ceil(len(begins) / n_parts)
        extents = (self._length[like_a_part] + 1).tolist()
        self._height = max(best_height(extents, self._goes_on[like_a_part].tolist()), int(self._length[0]) + 1)

    def batch(self, envs: Tensor | None = None) -> SegmentBatch:
        """Return the segments of some environments (at least one), by default of all."""
        chosen = slice(None) if envs is None else torch.isin(self._env, envs).nonzero().squeeze(1)
        start, length, env, goes_on = (each[chosen] for each in (self._start, self._length, self._env, self._goes_on))
        lanes, offsets = in_lanes((length + 1).tolist(), goes_on.tolist(), self._height)
        lane, offset = torch.tensor(lanes), torch.tensor(offsets)
        n_lanes, height = max(lanes) + 1, int((offset + length).max()) + 1
        step = torch.arange(int(length[0]) + 1).unsqueeze(1)
        place = (step <= length).flatten().nonzero().squeeze(1)
        cell = ((offset + step) * n_lanes + lane).flatten()[place]
        row = start + step[:-1].clamp(max=length - 1)  # padding repeats the last step
        is_real = step[:-1] < length
        inputs = self._rollout.inputs.new_zeros(height * n_lanes, self._rollout.inputs.shape[-1])
        inputs[cell] = self._inputs(start, length, place)
        core_state = self._rollout.core_state.new_zeros(n_lanes, self._rollout.core_state.shape[1])
        core_state[lane[goes_on]] = self._rollout.core_state[env[goes_on]]
        rollout = self._rollout
        return SegmentBatch(
            env=env,
            inputs=inputs.view(height, n_lanes, -1),
            gap=torch.ones(height * n_lanes, dtype=torch.bool).index_fill_(0, cell, False).view(height, n_lanes) if any(offsets) else None,
            core_state=core_state,
            action=rollout.action.flatten()[row],
            reward=rollout.reward.flatten(0, 1)[row] * is_real.view(*is_real.shape, *[1] * (rollout.reward.ndim - 2)),
            terminated=rollout.terminated.flatten()[row],
            is_last=step[:-1] == length - 1,
            is_real=is_real,
            row=row,
            place=place,
            cell=cell,
        )

    def _inputs(self, start: Tensor, length: Tensor, place: Tensor) -> Tensor:
        """Gather what was received, or followed, at places of the grid."""
        step, segment = place // len(start), place % len(start)
        row = start[segment] + torch.minimum(step, length[segment] - 1)
        inputs = self._rollout.inputs.flatten(0, 1)[row]
        followed = (step >= length[segment]).nonzero().squeeze(1)
        inputs[followed] = self._rollout.successors.flatten(0, 1)[row[followed]]
        return inputs


def in_lanes(extents: list[int], goes_on: list[bool], height: int) -> tuple[list[int], list[int]]:
    """Lay segments into lanes; return the lane of each, and the row of it at which the segment begins.

    Best fit, in the order given: a segment that goes on from a stored state opens a lane; then every other one comes, behind a gap of
    one row, into the lane in which it leaves the least room, or opens one.

    Parameters
    ----------
    extents : list of int
        Rows of every segment, none above `height`, best descending.
    goes_on : list of bool
        Whether a segment has to be the first of its lane.
    height : int
        Rows of a lane.

    References
    ----------
    Johnson et al. 1974, "Worst-case performance bounds for simple one-dimensional packing algorithms".
    """
    lanes, offsets = [0] * len(extents), [0] * len(extents)
    rooms: list[tuple[int, int]] = []
    for segment in sorted(range(len(extents)), key=lambda each: not goes_on[each]):
        extent = extents[segment]
        index = len(rooms) if goes_on[segment] else bisect_left(rooms, (extent + 1, 0))
        if index < len(rooms):
            room, lane = rooms.pop(index)
            offsets[segment] = height - room + 1
            insort(rooms, (room - extent - 1, lane))
        else:
            lane = len(rooms)
            insort(rooms, (height - extent, lane))
        lanes[segment] = lane
    return lanes, offsets


def best_height(extents: list[int], goes_on: list[bool]) -> int:
    """Return the height of lanes at which height x (number of lanes + `STEP_OVERHEAD`) is least, of those that are tried."""
    heights = sorted({int(share * max(extents)) for share in SHARES})
    return min(heights, key=lambda height: height * (max(in_lanes(extents, goes_on, height)[0]) + 1 + STEP_OVERHEAD))
