"""The beliefs of a finite world as a Markov decision process of their own, in matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.worlds._filter import push
from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._tables import FiniteTables, reward_levels
from worldprobe.worlds._world import check_channels


@dataclass(frozen=True, eq=False)
class BeliefMdp:
    """What acting in a belief pays, what can be received next, and what it says; for episodes that go on.

    Column c of `matrix` stands for landing in state `state[c]` and receiving one event: an observation and a reward, as
    far as they are channels. The columns of one event are contiguous; `events` are their slices.
    """

    matrix: Tensor
    """float64 (A, S, C): P(column c | s, a). Rows sum to the probability of going on."""
    state: Tensor
    """int64 (C,)."""
    events: tuple[slice, ...]
    reward: Tensor
    """float64 (S, A): E[r | s, a]."""
    discount: float
    time_limit: int
    first_beliefs: Tensor
    """float64 (m, S): the beliefs an episode can begin with."""
    first_weights: Tensor
    """float64 (m,): their probabilities."""

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.matrix.shape[1]

    @property
    def n_actions(self) -> int:
        """Number of actions."""
        return self.matrix.shape[0]

    def paid(self, beliefs: Tensor, action: Tensor) -> Tensor:
        """Return E[r | belief, action], (n,)."""
        return (beliefs @ self.reward).gather(1, action.unsqueeze(1)).squeeze(1)

    def advance(self, beliefs: Tensor, action: Tensor) -> Tensor:
        """Return the joint law of what follows, float64 (n, C)."""
        return push(beliefs, action, self.matrix)

    def event_masses(self, joint: Tensor) -> Tensor:
        """Return the probability of each event, (n, n_events)."""
        return torch.stack([joint[:, event].sum(1) for event in self.events], 1)

    def land(self, joint: Tensor, event: slice) -> Tensor:
        """Return the belief after one event that is possible in every row, (n, S)."""
        beliefs = joint.new_zeros(len(joint), self.n_states)
        beliefs[:, self.state[event]] = joint[:, event] / joint[:, event].sum(1, keepdim=True)
        return beliefs

    def successors(self, joint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return every possible next belief: (its row of `joint`, the belief (m, S), its probability (m,))."""
        masses = self.event_masses(joint)
        rows = [(mass > 0).nonzero().squeeze(1) for mass in masses.T]
        beliefs = [self.land(joint[row], event) for row, event in zip(rows, self.events, strict=True)]
        return torch.cat(rows), torch.cat(beliefs), torch.cat([mass[row] for mass, row in zip(masses.T, rows, strict=True)])

    def best(self, joint: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the best of `vectors` (I, S), values of states, after every event.

        Returns sum_e max_i sum_{c in e} joint[:, c] vectors[i, state[c]], float64 (n,), and the chosen i, int64 (n, n_events).
        """
        landed = vectors[:, self.state].T
        scores = [(joint[:, event] @ landed[event]).max(1) for event in self.events]
        return torch.stack([score.values for score in scores]).sum(0), torch.stack([score.indices for score in scores], 1)

    def after(self, beliefs: Tensor, vectors: Tensor) -> Tensor:
        """Return the undiscounted value of what follows each action if the best of `vectors` holds after it, (n, A)."""
        return torch.stack([self.best(beliefs @ matrix, vectors)[0] for matrix in self.matrix], 1)


def belief_mdp(world: FiniteWorld, channels: frozenset[str]) -> BeliefMdp:
    """Build the belief process of an agent that receives `channels` (and whether its episode goes on)."""
    check_channels(channels)
    tables = world.tables
    parts = [(joint, landing) for joint, landing in _events(tables, channels) if landing.numel()]
    stops = torch.tensor([landing.numel() for _, landing in parts]).cumsum(0).tolist()
    first, weights = _first_beliefs(tables, channels)
    return BeliefMdp(
        matrix=torch.cat([joint[:, :, landing] for joint, landing in parts], -1),
        state=torch.cat([landing for _, landing in parts]),
        events=tuple(slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)),
        reward=tables.expected_reward(),
        discount=world.discount,
        time_limit=world.time_limit,
        first_beliefs=first,
        first_weights=weights,
    )


def merge_equal(beliefs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Merge beliefs that agree to about 1e-10: (distinct beliefs, their added weights, which of them each one is)."""
    direction = torch.randn(beliefs.shape[1], 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keys, which = torch.unique((beliefs @ direction * 1e10).round().long(), dim=0, return_inverse=True)
    distinct = beliefs.new_empty(len(keys), beliefs.shape[1]).index_copy_(0, which, beliefs)
    return distinct, weights.new_zeros(len(keys)).index_add_(0, which, weights), which


def _events(tables: FiniteTables, channels: frozenset[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each event P(s' and the event | s, a), (A, S, S), and the running states it can come from."""
    everywhere = torch.ones_like(tables.reward, dtype=torch.bool)
    sights = tables.observation.T if "observation" in channels else torch.ones(1, tables.n_states, dtype=torch.float64)
    for paid in reward_levels(tables) if "reward" in channels else [everywhere]:
        for likelihood in sights:
            joint = tables.transition * paid * (likelihood * ~tables.terminal)
            yield joint, (joint > 0).any(1).any(0).nonzero().squeeze(1)


def _first_beliefs(tables: FiniteTables, channels: frozenset[str]) -> tuple[Tensor, Tensor]:
    if "observation" not in channels:
        return tables.initial.unsqueeze(0), torch.ones(1, dtype=torch.float64)
    joint = tables.observation.T * tables.initial
    joint = joint[joint.sum(1) > 0]
    return joint / joint.sum(1, keepdim=True), joint.sum(1)
