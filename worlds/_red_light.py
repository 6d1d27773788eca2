"""A light that has to be obeyed but not understood: its colour is all that acting well needs."""

from __future__ import annotations

import torch
from torch.nn.functional import one_hot

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._world import Factor, Headline

WAIT, PUSH = 0, 1


class RedLight(FiniteWorld):
    """A light moves round a ring of hidden phases whatever the agent does; push while it is red.

    Pushing pays +1 on red and -1 on green, waiting 0. Only the colour is seen, several phases look alike, and the
    optimal policy is memoryless: push if and only if the light is red. The phase still decides how soon the next reward can
    be had, so it is in Q* and not in the policy.

    Parameters
    ----------
    n_phases : int
        Number of phases on the ring.
    n_red : int
        How many of them, the last ones, are red.
    advance : float
        Probability that the light moves to the next phase in a step.

    Raises
    ------
    ValueError
        Unless 0 < n_red < n_phases and 0 < advance <= 1.

    Examples
    --------
    >>> from worldprobe.worlds import RedLight
    >>> world = RedLight()
    >>> [factor.name for factor in world.factors], world.observation_shape
    (['colour', 'phase'], (2,))
    """

    def __init__(self, n_phases: int = 6, n_red: int = 2, advance: float = 0.7) -> None:
        if not 0 < n_red < n_phases or not 0 < advance <= 1:
            raise ValueError(f"expected 0 < n_red < n_phases and 0 < advance <= 1; got {n_red}, {n_phases} and {advance}")
        phase = torch.arange(n_phases)
        colour = (phase >= n_phases - n_red).long()
        angle = 2 * torch.pi * phase.double() / n_phases
        super().__init__(
            _tables(colour, advance),
            name="red-light",
            factors={
                Factor("colour", "categorical", 2, "policy", labels=("green", "red")): colour,
                Factor("phase", "categorical", n_phases, "value", labels=tuple(f"phase {i}" for i in range(n_phases))): phase,
            },
            action_names=("wait", "push"),
            discount=0.95,
            time_limit=30,
            exploration=(0.5, 0.5),
            headline=Headline("phase", horizon=5),
            positions=torch.stack([angle.cos(), angle.sin()], 1),
        )


def _tables(colour: torch.Tensor, advance: float) -> FiniteTables:
    n_phases = colour.numel()
    stay = torch.eye(n_phases, dtype=torch.float64)
    turn = (1 - advance) * stay + advance * stay.roll(1, dims=1)
    reward = torch.zeros(2, n_phases, n_phases, dtype=torch.float64)
    reward[PUSH] = (2.0 * colour - 1).unsqueeze(1)
    return FiniteTables(
        initial=torch.full((n_phases,), 1 / n_phases, dtype=torch.float64),
        transition=turn.expand(2, -1, -1).clone(),
        observation=one_hot(colour, 2).double(),
        reward=reward,
        terminal=torch.zeros(n_phases, dtype=torch.bool),
    )
