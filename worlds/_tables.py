"""The tables (initial, P, O, R, terminal) that say everything about a finite world, and drawing from their rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-9
"""How far a row of probabilities may be from summing to one."""


@dataclass(frozen=True, eq=False)
class FiniteTables:
    """A finite partially observed Markov decision process, written out.

    Parameters
    ----------
    initial : Tensor
        float64 (S,): probability of each first state.
    transition : Tensor
        float64 (A, S, S): `transition[a, s, s']` = P(s' | s, a); terminal states stay where they are.
    observation : Tensor
        float64 (S, n_observations): `observation[s, o]` = P(o | s), terminal states included.
    reward : Tensor
        float64 (A, S, S): the reward of moving from s to s' by a, fixed given these three; 0 in terminal states.
    terminal : Tensor
        bool (S,): whether an episode ends on entering the state.

    Raises
    ------
    ValueError
        If a shape, a dtype, a row of probabilities or an absorbing state is wrong; the message names it.

    Examples
    --------
    A coin that is tossed until it shows heads:

    >>> import torch
    >>> from worldprobe.worlds import FiniteTables
    >>> toss = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]], dtype=torch.float64)
    >>> tables = FiniteTables(
    ...     initial=torch.tensor([1.0, 0.0], dtype=torch.float64), transition=toss, observation=torch.eye(2, dtype=torch.float64),
    ...     reward=torch.zeros(1, 2, 2, dtype=torch.float64), terminal=torch.tensor([False, True]))
    >>> tables.n_states, tables.n_actions, tables.n_observations
    (2, 1, 2)
    """

    initial: Tensor
    transition: Tensor
    observation: Tensor
    reward: Tensor
    terminal: Tensor

    def __post_init__(self) -> None:
        self._check_shapes()
        _check_rows("initial", self.initial)
        _check_rows("transition", self.transition)
        _check_rows("observation", self.observation)
        self._check_terminal()

    @property
    def n_states(self) -> int:
        """Number of states S, terminal ones included."""
        return self.initial.shape[0]

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        return self.transition.shape[0]

    @property
    def n_observations(self) -> int:
        """Number of observations."""
        return self.observation.shape[1]

    def expected_reward(self) -> Tensor:
        """Return E[r | s, a], float64 (S, A)."""
        return (self.transition * self.reward).sum(-1).T

    def _check_shapes(self) -> None:
        S = self.initial.shape[0]
        A, n_observations = self.transition.shape[0], self.observation.shape[-1]
        expected = {
            "initial": (S,),
            "transition": (A, S, S),
            "observation": (S, n_observations),
            "reward": (A, S, S),
            "terminal": (S,),
        }
        for name, shape in expected.items():
            table: Tensor = getattr(self, name)
            dtype = torch.bool if name == "terminal" else torch.float64
            if tuple(table.shape) != shape or table.dtype != dtype:
                raise ValueError(f"{name} must be {dtype} of shape {shape}; got {table.dtype} of shape {tuple(table.shape)}")
        if not self.reward.isfinite().all():
            raise ValueError("reward must be finite everywhere; write 0 for moves that cannot happen")

    def _check_terminal(self) -> None:
        ended = self.terminal
        if self.initial[ended].any():
            raise ValueError("initial must put no mass on terminal states: an episode has at least one step")
        stays = torch.eye(self.n_states, dtype=torch.float64, device=ended.device)[ended]
        if not torch.equal(self.transition[:, ended], stays.expand(self.n_actions, -1, -1)):
            raise ValueError("terminal states must be absorbing: transition[:, s, s] = 1 for every terminal s")
        if (self.reward * (self.transition > 0))[:, ended].any():
            raise ValueError("terminal states must pay nothing: reward[:, s, s] = 0 for every terminal s")


def possible_rewards(tables: FiniteTables) -> Tensor:
    """Return the distinct rewards that can be paid, float64 ascending; those closer than about 1e-6 are one."""
    paid = tables.reward[tables.transition > 0]
    rewards: Tensor = torch.unique(paid.round(decimals=6))
    return rewards


def reward_levels(tables: FiniteTables) -> list[Tensor]:
    """Return for each possible reward where it is paid, bool (A, S, S); every move that can happen is in exactly one."""
    rounded = tables.reward.round(decimals=6)
    return [rounded == level for level in possible_rewards(tables)]


class RowSampler:
    """Draws from the rows of a stochastic matrix by one binary search over all rows at once.

    Row i owns the interval [i, i + 1) of one sorted array of cumulative probabilities, so a batch of rows is one
    `searchsorted` of row + uniform. What comes back are positions among the non-zero entries, listed in `column`.
    """

    def __init__(self, rows: Tensor) -> None:
        self.row, self.column = rows.nonzero(as_tuple=True)
        cumulative = rows.cumsum(1)
        self._bounds = self.row + (cumulative / cumulative[:, -1:])[self.row, self.column]

    def draw(self, row: Tensor, generator: torch.Generator) -> Tensor:
        """Return one position per entry of `row`, int64 (n,)."""
        # Just below one: row + uniform must never round up into the next row's interval.
        uniform = torch.empty(row.shape, dtype=torch.float64, device=row.device).uniform_(0.0, 1.0 - 2.0**-30, generator=generator)
        return torch.searchsorted(self._bounds, uniform.add_(row), right=True)


def _check_rows(name: str, rows: Tensor) -> None:
    """Raise unless every last-axis row of `rows` is a probability vector."""
    if not (rows >= 0).all():
        raise ValueError(f"{name} must hold probabilities >= 0; its least entry is {rows.min().item()}")
    error = (rows.sum(-1) - 1).abs()
    if not (error <= TOLERANCE).all():
        where = [int(i) for i in (error == error.max()).nonzero()[0]]
        raise ValueError(f"{name} must sum to 1 over its last axis; the row at {where} is off by {error.max().item():.3g}")
