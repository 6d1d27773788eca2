"""The T-Maze of Bakker (2002) with the parameters of Lambrechts, Bolland & Ernst (2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._world import Factor, Headline

ACTIONS = ("right", "up", "left", "down")
EXPLORATION = (1 / 2, 1 / 6, 1 / 6, 1 / 6)
TREASURE, BUMP = 4.0, -0.1


class TMaze(FiniteWorld):
    """A corridor whose first cell tells which arm at its far end holds the treasure.

    State = goal (up or down) x position (0 .. length, then the upper and the lower arm, which end the episode). The
    observation is the goal at position 0, "corridor" before and "crossroad" at (and beyond) position `length`. The right
    arm pays 4, the wrong arm and every step that leaves the position unchanged -0.1, all else 0.

    Parameters
    ----------
    length : int
        Number of steps from the first cell to the crossroad.
    stochasticity : float
        Probability that the action is replaced by a uniform one of the four.

    Raises
    ------
    ValueError
        If `length` is below 1 or `stochasticity` outside [0, 1).

    Examples
    --------
    >>> from worldprobe.worlds import TMaze
    >>> world = TMaze(length=10, stochasticity=0.2)
    >>> world.tables.n_states, world.observation_shape, world.time_limit
    (26, (4,), 38)

    References
    ----------
    Lambrechts, Bolland & Ernst 2022, "Recurrent networks, hidden states and beliefs in partially observable environments".
    """

    def __init__(self, length: int = 10, stochasticity: float = 0.2) -> None:
        if length < 1 or not 0 <= stochasticity < 1:
            raise ValueError(f"expected length >= 1 and 0 <= stochasticity < 1; got {length} and {stochasticity}")
        n_places = length + 3
        place = torch.arange(n_places)
        drift = EXPLORATION[0] - EXPLORATION[2]
        super().__init__(
            _tables(length, stochasticity),
            name="tmaze",
            factors={
                Factor("goal", "categorical", 2, "policy", labels=("up", "down")): torch.arange(2).repeat_interleave(n_places),
                Factor("position", "categorical", n_places, "value", labels=_place_names(length)): place.repeat(2),
                Factor("state", "categorical", 2 * n_places, "policy", labels=_state_names(length)): torch.arange(2 * n_places),
            },
            action_names=ACTIONS,
            discount=0.98,
            time_limit=math.ceil(length / ((1 - stochasticity) * drift) - 1e-9),
            exploration=EXPLORATION,
            headline=Headline("state", horizon=5),
            positions=_positions(length),
        )


def _destinations(length: int) -> Tensor:
    """Return the place each executed action leads to, int64 (A, length + 3); the arms keep what enters them."""
    upper, lower = length + 1, length + 2
    stay = torch.arange(length + 3)
    right, up, left, down = (stay.clone() for _ in ACTIONS)
    right[:length] += 1
    left[1 : length + 1] -= 1
    up[length], down[length] = upper, lower
    return torch.stack([right, up, left, down])


def _tables(length: int, stochasticity: float) -> FiniteTables:
    n_places, n_actions = length + 3, len(ACTIONS)
    moves = torch.nn.functional.one_hot(_destinations(length), n_places).double()
    slipped = (1 - stochasticity) * moves + stochasticity * moves.mean(0)
    slipped[:, length + 1 :] = moves[:, length + 1 :]  # exact ones, whatever the rounding above
    transition, reward = torch.zeros(2, n_actions, 2 * n_places, 2 * n_places, dtype=torch.float64)
    for goal in range(2):
        block = slice(goal * n_places, (goal + 1) * n_places)
        transition[:, block, block] = slipped
        reward[:, block, block] = _rewards(length, goal)
    initial = torch.zeros(2, n_places, dtype=torch.float64)
    initial[:, 0] = 0.5
    terminal = (torch.arange(n_places) > length).repeat(2)
    return FiniteTables(initial.flatten(), transition, _observations(length), reward, terminal)


def _rewards(length: int, goal: int) -> Tensor:
    """Return the reward between places, (length + 3, length + 3), when the treasure is in arm `goal`."""
    reward = torch.zeros(length + 3, length + 3, dtype=torch.float64)
    reward.fill_diagonal_(BUMP)
    reward[: length + 1, length + 1 :] = BUMP
    reward[: length + 1, length + 1 + goal] = TREASURE
    reward[length + 1 :] = 0.0
    return reward


def _observations(length: int) -> Tensor:
    """Return O over (up, down, corridor, crossroad)."""
    seen = torch.full((2, length + 3), 2)
    seen[:, 0] = torch.arange(2)
    seen[:, length:] = 3
    return torch.nn.functional.one_hot(seen.flatten(), 4).double()


def _place_names(length: int) -> tuple[str, ...]:
    return (*map(str, range(length + 1)), "upper arm", "lower arm")


def _state_names(length: int) -> tuple[str, ...]:
    return tuple(f"{goal}, {place}" for goal in ("up", "down") for place in _place_names(length))


def _positions(length: int) -> Tensor:
    """Return the plane coordinates of every state: the corridor along x, the arms one cell above and below its end."""
    x = torch.arange(length + 3).clamp_max(length)
    y = torch.zeros(length + 3, dtype=torch.int64)
    y[length + 1], y[length + 2] = 1, -1
    return torch.stack([x, y], 1).double().repeat(2, 1)
