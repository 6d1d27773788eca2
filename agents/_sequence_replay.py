"""Replay of overlapping sequences of fixed length, drawn by priority; every step is stored once."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from worldprobe.agents._rollout import Rollout

PER_STEP = tuple(field.name for field in fields(Rollout) if field.name != "core_state")


@dataclass(slots=True)
class SequenceSample:
    """Sequences drawn from replay."""

    rollout: Rollout
    """The sequences, one per row, with the core state *before* the first input of each."""
    index: Tensor
    """int64 (n,): where to return their priorities to."""
    probability: Tensor
    """float64 (n,): with which each was drawn."""


class SequenceReplay:
    """A ring of rollouts; `n_blocks` that follow each other in one environment are a sequence, and one begins at every rollout.

    So sequences overlap, they go on across the ends of episodes (`Rollout.ended` says where), and the state stored with a
    rollout is that of its first step. A new sequence has the highest priority there is. The oldest rollout makes room for
    the newest.

    Parameters
    ----------
    capacity : int
        Number of rollouts kept; at least `n_blocks`.
    n_blocks : int
        Rollouts in a sequence.
    exponent : float
        Sequences are drawn with probability proportional to priority ** exponent; 0: uniformly.

    Raises
    ------
    ValueError
        If the capacity does not hold one sequence.

    References
    ----------
    Schaul et al. 2016, "Prioritized experience replay"; Kapturowski et al. 2019.
    """

    def __init__(self, capacity: int, n_blocks: int, exponent: float) -> None:
        if not 1 <= n_blocks <= capacity:
            raise ValueError(f"a replay of {capacity} rollouts holds no sequence of {n_blocks}: store more steps, or shorten sequences")
        self._capacity, self._n_blocks, self._exponent = capacity, n_blocks, exponent
        self._ring: dict[str, Tensor] = {}
        self._priority = torch.empty(0, dtype=torch.float64)
        self._count = 0

    def __len__(self) -> int:
        """Return the number of whole sequences."""
        return int((self._priority > 0).sum())

    def add(self, rollout: Rollout) -> None:
        """Store a rollout; the sequences that it completes become available."""
        arrays = {field.name: getattr(rollout, field.name) for field in fields(Rollout)}
        if not self._ring:
            self._ring = {name: torch.zeros(self._capacity, *each.shape, dtype=each.dtype) for name, each in arrays.items()}
            self._priority = torch.zeros(self._capacity, len(rollout.action), dtype=torch.float64)
        slot = self._count % self._capacity
        for name, each in arrays.items():
            self._ring[name][slot] = each
        self._priority[slot] = 0.0
        self._count += 1
        if self._count >= self._n_blocks:
            highest = self._priority.max().item()
            self._priority[(self._count - self._n_blocks) % self._capacity] = highest or 1.0

    def sample(self, n: int, generator: torch.Generator) -> SequenceSample:
        """Draw `n` sequences, with replacement.

        Raises
        ------
        ValueError
            If no sequence is whole yet.
        """
        mass = torch.where(self._priority > 0, self._priority**self._exponent, 0.0).flatten()
        total = mass.sum()
        if not total > 0:
            raise ValueError("no sequence is whole yet: add rollouts first")
        index = draw_by_mass(mass, torch.rand(n, dtype=torch.float64, generator=generator))
        block, env = index // self._priority.shape[1], index % self._priority.shape[1]
        follow = (block.unsqueeze(1) + torch.arange(self._n_blocks)) % self._capacity
        steps = {name: self._ring[name][follow, env.unsqueeze(1)].flatten(1, 2) for name in PER_STEP}
        return SequenceSample(Rollout(**steps, core_state=self._ring["core_state"][block, env]), index, mass[index] / total)

    def set_priorities(self, index: Tensor, priority: Tensor) -> None:
        """Give drawn sequences new priorities, all above zero (of one drawn twice, either)."""
        self._priority.view(-1)[index] = priority.double()

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that is stored."""
        filled = slice(0, min(self._count, self._capacity))
        kept = {f"ring/{name}": each[filled] for name, each in self._ring.items()}
        return kept | {"priority": self._priority[filled], "count": torch.tensor(self._count)}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on bit for bit from what `state_dict` returned."""
        self._count = int(saved["count"])
        self._ring = {name.removeprefix("ring/"): self._whole(each) for name, each in saved.items() if name.startswith("ring/")}
        self._priority = self._whole(saved["priority"]) if self._ring else saved["priority"]

    def _whole(self, filled: Tensor) -> Tensor:
        """Return stored rows in a ring of full capacity."""
        ring = torch.zeros(self._capacity, *filled.shape[1:], dtype=filled.dtype)
        ring[: len(filled)] = filled
        return ring


def draw_by_mass(mass: Tensor, uniform: Tensor) -> Tensor:
    """Return the indices that numbers in [0, 1) fall on when every index has a part of [0, 1) proportional to its mass.

    A running sum and a binary search per number: for the 10^5 sequences of a replay as fast as a tree of sums, and exact.

    Parameters
    ----------
    mass : Tensor
        float64 (n,), at least one above zero.
    uniform : Tensor
        float64 (m,).
    """
    edges = mass.cumsum(0)
    below_total = torch.nextafter(edges[-1], torch.zeros((), dtype=edges.dtype))
    return torch.searchsorted(edges, (uniform * edges[-1]).clamp_max(below_total), right=True)
