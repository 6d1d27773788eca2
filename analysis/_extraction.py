"""A model of the world that was read out of something else than the world, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.worlds import FiniteTables, solve_mdp, successor_representation

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PlanningReturn:
    """What a policy that is optimal in an extracted model earns in the true world, from its initial states, discounted."""

    earned: float
    optimum: float
    """Of the best policy for the true law."""
    uniform: float
    """Of actions drawn with equal probability."""

    @property
    def share(self) -> float:
        """(earned - uniform) / (optimum - uniform): 0 no better than chance, 1 as good as knowing the law."""
        return (self.earned - self.uniform) / (self.optimum - self.uniform)


@dataclass(frozen=True, eq=False)
class ExtractedModel:
    """A transition law that was inferred, with what is known of its certainty."""

    transition: Floats
    """P(s' | s, a), (A, S, S)."""
    source: str
    """What it was read from."""
    rank: Integers | None = None
    """Independent equations on P(. | s, a), that it sums to one included (S, A); S of them say all."""
    free_dimensions: Integers | None = None
    """Dimension of the set of probability vectors that fit P(. | s, a) as well (S, A); 0 where it is identified."""
    lower: Floats | None = None
    """Lower ends of the intervals of the entries (A, S, S)."""
    upper: Floats | None = None

    def total_variation(self, truth: FiniteTables) -> Floats:
        r"""Return the distance to the true law, :math:`\frac12 \sum_{s'} |\hat P - P|`, (S, A); NaN in terminal states.

        Raises
        ------
        ValueError
            If the true law is of another size.
        """
        law = truth.transition.numpy()
        if law.shape != self.transition.shape:
            raise ValueError(f"expected a law of shape {self.transition.shape} (A, S, S); got {law.shape}")
        distance = np.abs(self.transition - law).sum(axis=-1).T / 2
        return np.where(truth.terminal.numpy()[:, None], np.nan, distance)

    def plan(self, truth: FiniteTables, discount: float) -> PlanningReturn:
        """Plan in the model for the world's own reward, and return what the plan earns in the world."""
        model = torch.from_numpy(self.transition).clone()
        model[:, truth.terminal] = truth.transition[:, truth.terminal]
        policy = solve_mdp(replace(truth, transition=model / model.sum(-1, keepdim=True)), discount).policy
        uniform = torch.full((truth.n_states, truth.n_actions), 1 / truth.n_actions, dtype=torch.float64)
        chosen = torch.nn.functional.one_hot(policy, truth.n_actions).double()
        best = torch.nn.functional.one_hot(solve_mdp(truth, discount).policy, truth.n_actions).double()
        earned, optimum, chance = (_expected_return(truth, discount, one) for one in (chosen, best, uniform))
        return PlanningReturn(earned, optimum, chance)


def _expected_return(tables: FiniteTables, discount: float, policy: torch.Tensor) -> float:
    """Return the expected discounted return of action probabilities (S, A)."""
    paid = (policy * tables.expected_reward()).sum(1)
    return float(tables.initial @ successor_representation(tables, policy, discount) @ paid)
