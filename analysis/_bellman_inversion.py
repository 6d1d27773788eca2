"""From action values back to the law that made them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from worldprobe.analysis._extraction import ExtractedModel
from worldprobe.analysis._simplex import simplex_least_squares

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

POSITIVE = 1e-6
"""Probability above which an entry is taken for possible."""

RANK_TOLERANCE = 1e-9
"""Singular values below this share of the largest are taken for zero."""


@dataclass(frozen=True, eq=False)
class QTable:
    """Action values of several reward functions in every state, with their uncertainty."""

    mean: Floats
    """(K, S, A)."""
    standard_error: Floats
    """(K, S, A); zero where values are exact."""
    n_visits: Integers
    """Rows that each entry is the mean of (K, S)."""

    @classmethod
    def exact(cls, q_values: Floats) -> QTable:
        """Return the table of values (K, S, A) that are known without error."""
        values = np.asarray(q_values, dtype=np.float64)
        if values.ndim != 3:
            raise ValueError(f"q_values must be (K, S, A); got shape {values.shape}")
        return cls(values, np.zeros_like(values), np.ones(values.shape[:2], np.int64))

    @classmethod
    def of_rows(cls, q_values: Floats, state: Integers, task: Integers, groups: Integers, n_states: int, n_tasks: int) -> QTable:
        """Average recorded values over the rows of each state and task.

        Parameters
        ----------
        q_values : ndarray, shape (n_samples, A)
        state, task, groups : ndarray of int, shape (n_samples,)
            Where the agent was, by which reward function it was paid, and the episode.

        Returns
        -------
        QTable
            With the standard error of the mean over episodes.

        Raises
        ------
        ValueError
            If a state was never visited under a task: its value is not known.
        """
        cell = task * n_states + state
        n_cells = n_tasks * n_states
        visits = np.bincount(cell, minlength=n_cells)
        if (visits == 0).any():
            where = [f"state {number % n_states} under reward {number // n_states}" for number in np.flatnonzero(visits == 0)[:5]]
            raise ValueError(
                f"{(visits == 0).sum()} of {n_cells} states were never visited ({', '.join(where)}, ...), so their values are not known; "
                "record more, or explore more"
            )
        pairs, inverse = np.unique(np.stack([cell, groups], axis=1), axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        sizes = np.bincount(inverse)
        by_episode = np.stack([np.bincount(inverse, values) for values in q_values.T.astype(np.float64)], axis=1) / sizes[:, None]
        n_episodes = np.bincount(pairs[:, 0], minlength=n_cells)
        mean, square = (
            np.stack([np.bincount(pairs[:, 0], values, n_cells) for values in moment.T], axis=1) / n_episodes[:, None]
            for moment in (by_episode, by_episode**2)
        )
        spread = np.sqrt(np.maximum(square - mean**2, 0.0) / np.maximum(n_episodes - 1, 1)[:, None])
        shape = (n_tasks, n_states, -1)
        return cls(mean.reshape(shape), spread.reshape(shape), visits.reshape(n_tasks, n_states))


def invert_bellman(
    q_table: QTable,
    reward_functions: Floats,
    discount: float,
    *,
    terminal: Booleans | None = None,
    policy: Floats | None = None,
    n_draws: int = 0,
    level: float = 0.95,
    random_state: int = 0,
) -> ExtractedModel:
    r"""Infer the law of a fully observed world from Q-values of several reward functions.

    For every state and action, the Bellman equations of the K reward functions are K linear equations in one probability vector,

    .. math:: Q_k(s, a) = \sum_{s'} P(s' \mid s, a)\, [r_k(s, a, s') + \gamma V_k(s')], \qquad
        V_k(s') = \max_{a'} Q_k(s', a') \;\text{or}\; \sum_{a'} \pi_k(a' \mid s')\, Q_k(s', a') ,

    solved by least squares over the simplex for all states and actions at once. A single reward leaves the law open (value equivalence);
    enough of them determine it.

    Parameters
    ----------
    q_table : QTable
        Values of K reward functions in S states, `QTable.exact` or `QTable.of_rows`.
    reward_functions : ndarray, shape (K, A, S, S)
        What is paid for each move, terminal ones included.
    discount : float
        gamma that the values were learned with.
    terminal : ndarray of bool, shape (S,), optional
        Where episodes end: nothing is worth anything there, and the law there is not asked for.
    policy : ndarray, shape (K, S, A), optional
        Action probabilities that the agent's targets average over, where it was not trained on the maximum: the operator must be
        the one that the values are a fixed point of.
    n_draws : int
        Tables drawn from the standard errors of Q, each inverted anew, for the intervals of what is identified; what is not has the
        interval from 0 to 1.
    level : float
        Nominal coverage of the intervals: normal, with the bias taken off that the draws show. They cover 85 to 89 of 100 at a level of
        90 % where the noise is small, fewer where it is as large as the differences between states.
    random_state : int
        Seed of the draws.

    Returns
    -------
    ExtractedModel
        With rank, free dimensions and, if `n_draws`, intervals.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    Letcher et al. 2026, "Inverting the Bellman equation".

    Examples
    --------
    >>> import numpy as np
    >>> from worldprobe.analysis import QTable, invert_bellman
    >>> from worldprobe.worlds import RandomConfig, RandomWorld, solve_rewards
    >>> world = RandomWorld(RandomConfig(n_rewards=20))
    >>> q = solve_rewards(world.tables, world.reward_functions, world.discount).numpy()
    >>> errors = []
    >>> for K in (1, 20):
    ...     model = invert_bellman(QTable.exact(q[:K]), world.reward_functions[:K].numpy(), world.discount)
    ...     errors.append(float(model.total_variation(world.tables).mean()))
    >>> errors[0] > 0.5, errors[1] < 1e-4, int(model.free_dimensions.max())
    (True, True, 0)
    """
    q, rewards = q_table.mean, np.asarray(reward_functions, dtype=np.float64)
    K, S, A = q.shape
    ended = np.zeros(S, np.bool_) if terminal is None else np.asarray(terminal)
    if rewards.shape != (K, A, S, S) or ended.shape != (S,):
        raise ValueError(f"expected reward_functions ({K}, {A}, {S}, {S}) and terminal ({S},); got {rewards.shape} and {ended.shape}")
    if policy is not None and np.shape(policy) != q.shape:
        raise ValueError(f"policy must be {q.shape} as the Q-values are; got {np.shape(policy)}")
    law, designs = _invert(q, rewards, discount, ended, policy)
    rank, free = _identified(law, designs)
    lower = upper = None
    if n_draws:
        noise = np.random.default_rng(random_state).normal(size=(n_draws, *q.shape)) * q_table.standard_error
        drawn = [_invert(q + error, rewards, discount, ended, policy)[0] for error in noise]
        # Noise in Q is noise in both sides of the equations, and biases the law as much in the draws as in the answer.
        centre, half = 2 * law - np.mean(drawn, axis=0), norm.ppf((1 + level) / 2) * np.std(drawn, axis=0, ddof=1)
        lower, upper = np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
        unknown = (free.T > 0)[:, :, None]
        lower, upper = np.where(unknown, 0.0, lower), np.where(unknown, 1.0, upper)
    operator = "max" if policy is None else "expected"
    return ExtractedModel(law, f"Bellman inversion of {K} rewards ({operator} operator)", rank, free, lower, upper)


def _invert(q: Floats, rewards: Floats, discount: float, ended: Booleans, policy: Floats | None) -> tuple[Floats, Floats]:
    """Return the law (A, S, S) and the equations (A, S, K, S) it solves."""
    values = q.max(axis=-1) if policy is None else (q * policy).sum(axis=-1)
    worth = discount * np.where(ended, 0.0, values)
    designs = np.moveaxis(rewards + worth[:, None, None, :], 0, 2)
    A, S, K, _ = designs.shape
    law = simplex_least_squares(designs.reshape(A * S, K, S), np.moveaxis(q, 0, 2).swapaxes(0, 1).reshape(A * S, K)).reshape(A, S, S)
    law[:, ended] = np.eye(S)[ended]
    return law, designs


def _identified(law: Floats, designs: Floats) -> tuple[Integers, Integers]:
    """Return the rank of the equations, and the dimension of the set of equally good answers, for each state and action."""
    A, S = designs.shape[:2]
    rank, free = np.empty((S, A), np.int64), np.empty((S, A), np.int64)
    scale = float(np.abs(designs).max(initial=1e-300))
    for action in range(A):
        for state in range(S):
            equations = np.concatenate([designs[action, state] / scale, np.ones((1, S))])
            possible = law[action, state] > POSITIVE
            rank[state, action] = np.linalg.matrix_rank(equations, rtol=RANK_TOLERANCE)
            free[state, action] = possible.sum() - np.linalg.matrix_rank(equations[:, possible], rtol=RANK_TOLERANCE)
    return rank, free
