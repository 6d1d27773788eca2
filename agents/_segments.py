"""Rollouts cut at the ends of episodes, so that every piece runs through a fused kernel without a reset inside."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.agents._rollout import Rollout

CALL_OVERHEAD, STEP_OVERHEAD = 128, 8
"""Padded steps that cost as much as one more call of a kernel, and as one more step of its loop over time (LSTM, GRU of 64 to 256)."""


@dataclass(slots=True)
class SegmentBatch:
    """`n` unbroken segments padded to `length` steps, time first, plus one row of what followed each."""

    env: Tensor
    """int64 (n,): the environment each segment comes from."""
    inputs: Tensor
    """float32 (length + 1, n, input_size): received inputs; the row after a segment's last step is what followed it."""
    core_state: Tensor
    """float32 (n, state_size): the core state before the first step."""
    action: Tensor
    """int64 (length, n)."""
    reward: Tensor
    """float32 (length, n), 0 in the padding."""
    terminated: Tensor
    """bool (length, n)."""
    is_last: Tensor
    """bool (length, n): the last step of its segment."""
    is_real: Tensor
    """bool (length, n): not padding."""

    def of_envs(self, envs: Tensor) -> SegmentBatch:
        """Return the segments of the given environments."""
        index = torch.isin(self.env, envs).nonzero().squeeze(1)
        rest = (self.inputs, self.action, self.reward, self.terminated, self.is_last, self.is_real)
        inputs, action, reward, terminated, is_last, is_real = (each.index_select(1, index) for each in rest)
        return SegmentBatch(self.env[index], inputs, self.core_state[index], action, reward, terminated, is_last, is_real)


def cut_segments(rollout: Rollout, n_parts: int = 1) -> list[SegmentBatch]:
    """Cut every environment's column after the end of each episode and pad the pieces in a few groups of similar length.

    A piece that goes on from the rollout before starts from the stored core state, every other one from zeros. The groups are
    those of least cost if the environments are then run in `n_parts` parts, one after the other.
    """
    begins = torch.ones_like(rollout.ended)
    begins[:, 1:] = rollout.ended[:, :-1]
    start = begins.flatten().nonzero().squeeze(1)  # rows count through env 0, then env 1, ...
    length = torch.diff(start, append=torch.tensor([begins.numel()]))
    return [
        _pad(rollout, start[group], length[group]) for group in group_by_length(length, n_parts * CALL_OVERHEAD, n_parts * STEP_OVERHEAD)
    ]


def group_by_length(length: Tensor, call_overhead: int, step_overhead: int) -> list[Tensor]:
    """Return the indices of segments in the groups that cost least.

    A group of n segments costs `call_overhead` + (longest + 1) (n + `step_overhead`): each is padded to the longest, and has
    a row for what followed.

    Dynamic programming over the distinct lengths, shortest first.
    """
    lengths, count = torch.unique(length, return_counts=True)
    total = torch.cat([torch.zeros(1, dtype=torch.int64), count.cumsum(0)])
    best, first = torch.zeros(len(lengths) + 1, dtype=torch.int64), []
    for end in range(1, len(lengths) + 1):
        cost = best[:end] + call_overhead + (total[end] - total[:end] + step_overhead) * (lengths[end - 1] + 1)
        first.append(int(cost.argmin()))
        best[end] = cost[first[-1]]
    groups, end = [], len(lengths)
    while end:
        begin = first[end - 1]
        groups.append(((length >= lengths[begin]) & (length <= lengths[end - 1])).nonzero().squeeze(1))
        end = begin
    return groups


def _pad(rollout: Rollout, start: Tensor, length: Tensor) -> SegmentBatch:
    """Gather the segments that begin at row `start` of the environment-major rollout, padded to the longest."""
    n_steps = rollout.action.shape[1]
    step = torch.arange(int(length.max()) + 1).unsqueeze(1)
    row = start + step.clamp(max=length - 1)  # padding repeats the last step
    is_real = step < length
    received, followed = rollout.inputs.flatten(0, 1)[row], rollout.successors.flatten(0, 1)[row]
    row, is_real = row[:-1], is_real[:-1]
    return SegmentBatch(
        env=start // n_steps,
        inputs=torch.where((step < length).unsqueeze(-1), received, followed),
        core_state=rollout.core_state[start // n_steps] * (start % n_steps == 0).unsqueeze(1),
        action=rollout.action.flatten()[row],
        reward=rollout.reward.flatten()[row] * is_real,
        terminated=rollout.terminated.flatten()[row],
        is_last=step[:-1] == length - 1,
        is_real=is_real,
    )
