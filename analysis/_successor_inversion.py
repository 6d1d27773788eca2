"""From successor features, and from goal-conditioned predictions, back to the law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._extraction import ExtractedModel

Floats = NDArray[np.float64]

LEAST_CONDITION = 1e-10
"""Reciprocal condition number below which successor features of states are not inverted."""


def invert_successor_features(psi: Floats, policy: Floats, discount: float) -> ExtractedModel:
    r"""Infer the law from successor features of one-hot states.

    With :math:`\psi(s, a) = e_s + \gamma \sum_{s'} P(s' \mid s, a)\, \Psi_\pi(s')` and
    :math:`\Psi_\pi(s) = \sum_a \pi(a \mid s)\, \psi(s, a)`,

    .. math:: P(\cdot \mid s, a) = \frac{(\psi(s, a) - e_s)\, \Psi_\pi^{-1}}{\gamma}, \qquad P_\pi = \frac{I - \Psi_\pi^{-1}}{\gamma} ,

    projected on the probability vectors, as learned features need not give one.

    Parameters
    ----------
    psi : ndarray, shape (S, A, S)
        Discounted expected visits to each state, the present one counted, after taking a in s and then following the policy.
    policy : ndarray, shape (S, A)
        Action probabilities that psi follows.
    discount : float
        gamma, in (0, 1).

    Returns
    -------
    ExtractedModel

    Raises
    ------
    ValueError
        If the shapes do not fit, the discount is no number between 0 and 1, or the features of some states are the same.

    References
    ----------
    Dayan 1993; Barreto et al. 2017, "Successor features for transfer in reinforcement learning".

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from worldprobe.worlds import RandomConfig, RandomWorld, successor_representation
    >>> world, policy = RandomWorld(RandomConfig()), np.full((20, 5), 0.2)
    >>> visits = successor_representation(world.tables, torch.from_numpy(policy), 0.9).numpy()
    >>> law = world.tables.transition.numpy()
    >>> psi = np.eye(20)[:, None] + 0.9 * np.swapaxes(law @ visits, 0, 1)
    >>> float(np.abs(invert_successor_features(psi, policy, 0.9).transition - law).max()) < 1e-9
    True
    """
    features, chosen = np.asarray(psi, dtype=np.float64), np.asarray(policy, dtype=np.float64)
    if features.ndim != 3 or features.shape[0] != features.shape[2] or chosen.shape != features.shape[:2]:
        raise ValueError(f"expected psi (S, A, S) and policy (S, A); got {features.shape} and {chosen.shape}")
    if not 0 < discount < 1:
        raise ValueError(f"the discount must lie between 0 and 1; got {discount}")
    visits = np.einsum("sa,sat->st", chosen, features)
    if 1 / np.linalg.cond(visits) < LEAST_CONDITION:
        raise ValueError("the successor features of some states are the same under the policy, so they do not say where actions lead")
    identity = np.eye(len(features))
    law = np.linalg.solve(visits.T, np.moveaxis(features - identity[:, None], 2, 0).reshape(len(features), -1)).T / discount
    return ExtractedModel(_as_law(law.reshape(features.shape)), "successor features")


def read_predictions(predictions: Floats) -> ExtractedModel:
    """Take one-step predictions of one-hot states, a goal-conditioned model's f(s, a, tau=0) say, for a law.

    Parameters
    ----------
    predictions : ndarray, shape (S, A, S)
        Expected one-hot of the next state; projected on the probability vectors.

    Returns
    -------
    ExtractedModel

    References
    ----------
    Pong et al. 2018, "Temporal difference models: model-free deep RL for model-based control".

    Examples
    --------
    >>> import numpy as np
    >>> read_predictions(np.array([[[0.5, 0.5]], [[-0.1, 1.1]]])).transition.tolist()
    [[[0.5, 0.5], [0.0, 1.0]]]
    """
    given = np.asarray(predictions, dtype=np.float64)
    if given.ndim != 3 or given.shape[0] != given.shape[2]:
        raise ValueError(f"expected predictions (S, A, S); got {given.shape}")
    return ExtractedModel(_as_law(given), "one-step predictions")


def _as_law(rows: Floats) -> Floats:
    """Return the nearest probability vectors to rows (S, A, S), as a law (A, S, S)."""
    ordered = -np.sort(-rows, axis=-1)
    excess = (ordered.cumsum(axis=-1) - 1) / np.arange(1, rows.shape[-1] + 1)
    kept = (ordered > excess).sum(axis=-1, keepdims=True)
    law = np.maximum(rows - np.take_along_axis(excess, kept - 1, axis=-1), 0.0)
    return np.swapaxes(law, 0, 1)
