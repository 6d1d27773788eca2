"""From the choices of a goal-conditioned agent back to the law: it is asked which of two outcomes it would rather bet on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from worldprobe.analysis._extraction import ExtractedModel

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GoalQuery:
    """Two goals to choose between, for many moves at once: in `n_trials` tries of `action` in `state`, does `following` come up..."""

    state: Integers
    """(n,)."""
    action: Integers
    following: Integers
    n_trials: int
    at_most: Integers
    """...at most this often (n,), or more often?"""


Chooser = Callable[[GoalQuery], Booleans]
"""Says for each query whether the agent goes for "at most" (n,)."""


def query_goals(chooser: Chooser, n_states: int, n_actions: int, n_trials: int) -> ExtractedModel:
    r"""Infer the law from where an agent's choice between two composite goals switches.

    Of the goals "s' at most k times in n tries" and "more than k times", a competent agent goes for the likelier one. Its preference
    switches to the first at the k for which the binomial of p = P(s' | s, a) and n has its median, so p = (k* + 1/2) / (n + 1) within
    about 1 / (2 n). Bisection needs log2(n) questions for each (s, a, s'). An agent that looks one step ahead only has no
    preference that depends on k, and its answers say nothing.

    Parameters
    ----------
    chooser : callable
        The agent: a `GoalQuery` in, a boolean for each query out.
    n_states, n_actions : int
    n_trials : int
        Depth n of the goals.

    Returns
    -------
    ExtractedModel
        Entries as they were read; rows need not sum to one.

    Raises
    ------
    ValueError
        If `n_trials` is not positive.

    References
    ----------
    Richens et al. 2025, "General agents contain world models", theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.analysis import optimal_chooser, query_goals
    >>> law = np.array([[[0.3, 0.7], [0.9, 0.1]]])
    >>> query_goals(optimal_chooser(law), n_states=2, n_actions=1, n_trials=50).transition.round(2)
    array([[[0.3 , 0.7 ],
            [0.89, 0.11]]])
    """
    if n_trials < 1:
        raise ValueError(f"n_trials must be 1 or more; got {n_trials}")
    action, state, following = (index.reshape(-1) for index in np.indices((n_actions, n_states, n_states)))
    low, high = np.full(len(state), -1), np.full(len(state), n_trials)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        prefers = np.asarray(chooser(GoalQuery(state, action, following, n_trials, middle)), dtype=np.bool_)
        high, low = np.where(prefers, middle, high), np.where(prefers, low, middle)
    law = ((high + 0.5) / (n_trials + 1)).reshape(n_actions, n_states, n_states)
    return ExtractedModel(law, f"choices between goals of depth {n_trials}")


def optimal_chooser(law: Floats) -> Chooser:
    """Return an agent that knows a law (A, S, S), and goes for the likelier goal."""

    def choose(query: GoalQuery) -> Booleans:
        p = law[query.action, query.state, query.following]
        return np.asarray(binom.cdf(query.at_most, query.n_trials, p) >= 0.5)

    return choose


def myopic_chooser(law: Floats) -> Chooser:
    """Return an agent that looks at the very next try only: it goes for "at most" where s' is not the likelier outcome, whatever k is."""

    def choose(query: GoalQuery) -> Booleans:
        return np.asarray(law[query.action, query.state, query.following] <= 0.5)

    return choose
