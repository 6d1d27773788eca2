"""How much must be remembered: the smallest finite-state controller that earns a share of what can be earned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._pomdp import solve_pomdp

MAX_CONTROLLERS = 300_000
"""Controllers up to which all of a size are tried."""

BATCH = 4096
"""Controllers that are evaluated at once."""


@dataclass(frozen=True, eq=False)
class Controller:
    """A deterministic machine of M memory states: in m, seeing o, it does `action[m, o]` and goes to `following[m, o]`; it begins in 0."""

    action: Tensor
    """int64 (M, n_observations)."""
    following: Tensor
    """int64 (M, n_observations)."""

    @property
    def n_states(self) -> int:
        """Number of memory states M."""
        return len(self.action)


@dataclass(frozen=True, eq=False)
class SmallestController:
    """Between how many memory states the smallest controller has that earns enough."""

    lower: int
    """With fewer none does: all were tried."""
    upper: int | None
    """With so many one does, `controller`; None if none was found."""
    target: float
    """What is to be earned, discounted: the share of the best known."""
    earned: float
    """What `controller` earns; the best that was found if it is not enough."""
    controller: Controller
    method: str

    @property
    def is_exact(self) -> bool:
        """Whether both bounds are one number."""
        return self.lower == self.upper

    @property
    def bits(self) -> tuple[float, float]:
        """Bounds of the bits that must be remembered, log2 of the number of states."""
        return math.log2(self.lower), math.inf if self.upper is None else math.log2(self.upper)


def evaluate_controllers(world: FiniteWorld, action: Tensor, following: Tensor) -> Tensor:
    """Return what controllers earn, exactly: expected discounted returns of episodes cut at the time limit.

    Parameters
    ----------
    world : FiniteWorld
    action, following : Tensor
        int64 (n, M, n_observations); see `Controller`.

    Returns
    -------
    Tensor
        float64 (n,).

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import RedLight, evaluate_controllers
    >>> world = RedLight()
    >>> still = torch.zeros(1, 1, world.tables.n_observations, dtype=torch.int64)
    >>> evaluate_controllers(world, still, still).shape
    torch.Size([1])
    """
    tables, reward = world.tables, world.tables.expected_reward()
    n, M, n_observations = action.shape
    values = torch.zeros(n, tables.n_states, M, dtype=torch.float64)
    each, seen = torch.arange(n)[:, None], torch.arange(n_observations)
    for _ in range(world.time_limit):
        ahead = reward.T[None, :, :, None] + world.discount * torch.einsum("ast,ntm->nasm", tables.transition, values)
        values = torch.stack([(ahead[each, action[:, m], :, following[:, m]] * tables.observation.T[seen]).sum(1) for m in range(M)], 2)
    earned: Tensor = values[:, :, 0] @ tables.initial
    return earned


def find_smallest_controller(
    world: FiniteWorld, share: float = 0.99, *, max_states: int = 8, n_restarts: int = 30, seed: int = 0
) -> SmallestController:
    """Bound the memory that a share of J* needs, where o_t alone is received beside what the controller did.

    Sizes are tried upwards. All controllers of a size are evaluated where there are few enough: then none earning enough is proof. Else,
    and for the rest, coordinate ascent from random controllers looks for one: finding it is proof, not finding it is none.

    Parameters
    ----------
    world : FiniteWorld
    share : float
        Of the best known discounted return; for a negative one, the same distance below it.
    max_states : int
        Largest size that is tried.
    n_restarts : int
        Random controllers that the ascent starts from, for each size.
    seed : int
        Seed of these.

    Returns
    -------
    SmallestController

    Examples
    --------
    One bit is enough for a T-Maze, and nothing is not:

    >>> from worldprobe.worlds import TMaze, find_smallest_controller
    >>> found = find_smallest_controller(TMaze(length=5), share=0.97)
    >>> found.lower, found.upper, found.bits
    (2, 2, (1.0, 1.0))

    References
    ----------
    Meuleau et al. 1999, "Learning finite-state controllers for partially observable environments"; Amato, Bernstein & Zilberstein 2010.
    """
    best = solve_pomdp(world, frozenset({"observation", "action"})).lower
    target = best - (1 - share) * abs(best)
    generator, lower, tried = torch.Generator().manual_seed(seed), 1, list[str]()
    top: tuple[float, Controller] | None = None
    for M in range(1, max_states + 1):
        if (world.n_actions * M) ** (M * world.tables.n_observations) <= MAX_CONTROLLERS:
            found, how = _try_all(world, M), f"all of {M}"
        else:
            found, how = _climb(world, M, target, n_restarts, generator), f"ascent over {M}"
        tried.append(how)
        top = found if top is None or found[0] > top[0] else top
        if found[0] >= target - 1e-9:
            return SmallestController(lower, M, target, found[0], found[1], ", ".join(tried))
        if how.startswith("all") and lower == M:
            lower = M + 1
    assert top is not None
    return SmallestController(lower, None, target, top[0], top[1], ", ".join(tried))


def _try_all(world: FiniteWorld, M: int) -> tuple[float, Controller]:
    """Return the best of all controllers of M states, and what it earns."""
    n_observations, choices = world.tables.n_observations, world.n_actions * M
    n_cells = M * n_observations
    best: tuple[float, Controller] | None = None
    for begin in range(0, choices**n_cells, BATCH):
        numbers = torch.arange(begin, min(begin + BATCH, choices**n_cells))
        cells = torch.stack([numbers // choices**place % choices for place in range(n_cells)], 1).view(-1, M, n_observations)
        best = _better(best, world, cells, M)
    assert best is not None
    return best


def _climb(world: FiniteWorld, M: int, target: float, n_restarts: int, generator: torch.Generator) -> tuple[float, Controller]:
    """Return the best controller that coordinate ascent finds: cell by cell, the best action and next state given all others."""
    n_observations, choices = world.tables.n_observations, world.n_actions * M
    best: tuple[float, Controller] | None = None
    for _ in range(n_restarts):
        cells, value = torch.randint(choices, (1, M, n_observations), generator=generator), -math.inf
        while True:
            before = value
            for place in torch.randperm(M * n_observations, generator=generator).tolist():
                tried = cells.repeat(choices, 1, 1)
                tried.view(choices, -1)[:, place] = torch.arange(choices)
                earned = evaluate_controllers(world, tried // M, tried % M)
                cells, value = tried[earned.argmax()].unsqueeze(0), float(earned.max())
            if value <= before + 1e-9 or value >= target:
                break
        best = _better(best, world, cells, M)
        if best[0] >= target:
            break
    assert best is not None
    return best


def _better(best: tuple[float, Controller] | None, world: FiniteWorld, cells: Tensor, M: int) -> tuple[float, Controller]:
    """Return the best so far, or the best of these."""
    earned = evaluate_controllers(world, cells // M, cells % M)
    place = int(earned.argmax())
    if best is not None and best[0] >= float(earned[place]):
        return best
    return float(earned[place]), Controller(cells[place] // M, cells[place] % M)
