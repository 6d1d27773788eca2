"""Replay of whole episodes."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import torch
from torch import Tensor

from worldprobe.agents._rollout import Rollout

PER_STEP = ("inputs", "successors", "action", "reward", "terminated")

Steps = dict[str, Tensor]
"""Steps that follow each other: `PER_STEP`, each with leading T."""


class EpisodeReplay:
    """The last `capacity` episodes, put together from rollouts.

    Parameters
    ----------
    capacity : int
        Number of episodes; the oldest makes room for the newest.
    n_envs : int
        Environments in a rollout.
    """

    def __init__(self, capacity: int, n_envs: int) -> None:
        self._episodes: deque[Steps] = deque(maxlen=capacity)
        self._begun: list[list[Steps]] = [[] for _ in range(n_envs)]

    def __len__(self) -> int:
        """Return the number of whole episodes."""
        return len(self._episodes)

    def add(self, rollout: Rollout) -> int:
        """Store a rollout and return the number of episodes that ended in it."""
        n_ended = 0
        for env, ended in enumerate(rollout.ended):
            ends = ended.nonzero().flatten().tolist()
            for begin, end in pairwise([0, *(step + 1 for step in ends), len(ended)]):
                if begin < end:
                    self._begun[env].append({name: getattr(rollout, name)[env, begin:end] for name in PER_STEP})
                if end - 1 in ends and begin < end:
                    self._episodes.append(_joined(self._begun[env]))
                    self._begun[env] = []
            n_ended += len(ends)
        return n_ended

    def sample_episodes(self, n: int, generator: torch.Generator) -> list[Steps]:
        """Draw `n` whole episodes uniformly, with replacement."""
        return [self._episodes[i] for i in torch.randint(len(self._episodes), (n,), generator=generator).tolist()]

    def sample_histories(self, n: int, generator: torch.Generator) -> list[Steps]:
        """Draw `n` steps uniformly among all that are stored, with replacement; return each with all that came before it."""
        edges = torch.tensor([len(episode["action"]) for episode in self._episodes]).cumsum(0)
        row = torch.randint(int(edges[-1]), (n,), generator=generator)
        index = torch.searchsorted(edges, row, right=True)
        first = torch.cat([torch.zeros(1, dtype=torch.int64), edges])[index]
        return [
            {name: values[: length + 1] for name, values in self._episodes[i].items()}
            for i, length in zip(index.tolist(), (row - first).tolist(), strict=True)
        ]

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that is stored."""
        begun = [_joined(pieces) for pieces in self._begun if pieces]
        whole = list(self._episodes)
        kept = {f"steps/{name}": values for name, values in _joined([*whole, *begun]).items()} if whole or begun else {}
        lengths = torch.tensor([sum(len(piece["action"]) for piece in pieces) for pieces in self._begun])
        return kept | {"length": torch.tensor([len(each["action"]) for each in whole], dtype=torch.int64), "begun_length": lengths}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on bit for bit from what `state_dict` returned."""
        lengths = [*saved["length"].tolist(), *saved["begun_length"].tolist()]
        flat = {name: torch.split(saved[f"steps/{name}"], lengths) for name in PER_STEP} if sum(lengths) else {}
        pieces = [{name: values[i] for name, values in flat.items()} for i in range(len(lengths))]
        n_whole = len(saved["length"])
        self._episodes.extend(pieces[:n_whole])
        self._begun = [[piece] if length else [] for piece, length in zip(pieces[n_whole:], lengths[n_whole:], strict=True)]


def as_rollout(pieces: list[Steps], state_size: int) -> Rollout:
    """Return pieces of episodes, each from its first step, one after the other in a single environment."""
    steps = _joined(pieces)
    ended = torch.zeros(len(steps["action"]), dtype=torch.bool)
    ended[torch.tensor([len(piece["action"]) for piece in pieces]).cumsum(0) - 1] = True
    rows = {name: values.unsqueeze(0) for name, values in steps.items()}
    return Rollout(**rows, ended=ended.unsqueeze(0), core_state=torch.zeros(1, state_size))


def _joined(pieces: list[Steps]) -> Steps:
    """Return pieces one after the other, in memory of their own."""
    return {name: torch.cat([piece[name] for piece in pieces]) for name in PER_STEP}
