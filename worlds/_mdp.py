"""Optimal control and occupancy of a finite world whose state is seen: Q*, finite horizons, successor representations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldprobe.worlds._tables import FiniteTables

IMPROVEMENT = 1e-11
"""An action replaces the present one only if it is better by more than rounding."""


@dataclass(frozen=True, eq=False)
class MdpSolution:
    """Q* of the discounted problem without a time limit."""

    q_values: Tensor
    """float64 (S, A)."""
    values: Tensor
    """float64 (S,): max_a Q*(s, a)."""
    policy: Tensor
    """int64 (S,): one optimal action per state."""
    residual: float
    """sup-norm of Q - (r + gamma P max Q): what the Bellman equation leaves over."""


@dataclass(frozen=True, eq=False)
class HorizonSolution:
    """Q* with a time limit: row t is the optimum at step t of an episode that is cut after the last row."""

    q_values: Tensor
    """float64 (time_limit, S, A)."""
    values: Tensor
    """float64 (time_limit + 1, S); the last row is zero."""


def solve_mdp(tables: FiniteTables, discount: float) -> MdpSolution:
    """Solve Q(s, a) = E[r + gamma max_a' Q(s', a')] by policy iteration with exact policy evaluation.

    Parameters
    ----------
    tables : FiniteTables
        The world's law; observations are not used.
    discount : float
        gamma, in [0, 1).

    Returns
    -------
    MdpSolution
        Q*, V*, a deterministic optimal policy (the first of equally good actions it met) and the Bellman residual.

    Raises
    ------
    ValueError
        If the discount is outside [0, 1).

    Examples
    --------
    >>> from worldprobe.worlds import TMaze, solve_mdp
    >>> solution = solve_mdp(TMaze(length=10, stochasticity=0.0).tables, discount=0.98)
    >>> round(solution.values[0].item(), 6) == round(4 * 0.98**10, 6)
    True

    References
    ----------
    Howard 1960, "Dynamic programming and Markov processes".
    """
    if not 0 <= discount < 1:
        raise ValueError(f"discount must lie in [0, 1) for a problem without a time limit; got {discount}")
    reward, policy = tables.expected_reward(), torch.zeros(tables.n_states, dtype=torch.int64)
    while True:
        q_values = _q_values(tables, reward, discount, _policy_values(tables, reward, discount, policy))
        present = q_values.gather(1, policy.unsqueeze(1)).squeeze(1)
        best, action = q_values.max(1)
        improved = torch.where(best > present + IMPROVEMENT, action, policy)
        if torch.equal(improved, policy):
            break
        policy = improved
    residual = (q_values - _q_values(tables, reward, discount, best)).abs().max().item()
    return MdpSolution(q_values, best, policy, residual)


def solve_rewards(tables: FiniteTables, reward_functions: Tensor, discount: float) -> Tensor:
    """Solve one and the same law for several reward functions.

    Parameters
    ----------
    tables : FiniteTables
        The world's law; its own reward is not used.
    reward_functions : Tensor
        float64 (K, A, S, S).
    discount : float
        gamma, in [0, 1).

    Returns
    -------
    Tensor
        float64 (K, S, A): Q* of each reward function.

    Examples
    --------
    >>> from worldprobe.worlds import RandomConfig, RandomWorld, solve_rewards
    >>> world = RandomWorld(RandomConfig(n_rewards=3))
    >>> solve_rewards(world.tables, world.reward_functions, world.discount).shape
    torch.Size([3, 20, 5])
    """
    return torch.stack([solve_mdp(replace(tables, reward=reward), discount).q_values for reward in reward_functions])


def solve_mdp_horizon(tables: FiniteTables, discount: float, time_limit: int) -> HorizonSolution:
    """Solve Q_t(s, a) = E[r + gamma max_a' Q_{t+1}(s', a')] backwards from Q_{time_limit} = 0.

    Parameters
    ----------
    tables : FiniteTables
        The world's law; observations are not used.
    discount : float
        gamma, in [0, 1].
    time_limit : int
        Number of steps after which the episode is cut, without anything being paid.

    Returns
    -------
    HorizonSolution
        Q* and V* at every step of the episode.

    Examples
    --------
    >>> from worldprobe.worlds import TMaze, solve_mdp_horizon
    >>> solve_mdp_horizon(TMaze(length=2, stochasticity=0.0).tables, discount=1.0, time_limit=3).values[:, 0].tolist()
    [4.0, 0.0, 0.0, 0.0]
    """
    reward = tables.expected_reward()
    values = [torch.zeros(tables.n_states, dtype=torch.float64)]
    q_values: list[Tensor] = []
    for _ in range(time_limit):
        q_values.append(_q_values(tables, reward, discount, values[-1]))
        values.append(q_values[-1].amax(1))
    return HorizonSolution(torch.stack(q_values[::-1]), torch.stack(values[::-1]))


def successor_representation(tables: FiniteTables, policy: Tensor, discount: float) -> Tensor:
    """Return (I - gamma P_pi)^-1, the discounted number of visits to s' from s.

    Parameters
    ----------
    tables : FiniteTables
        The world's law.
    policy : Tensor
        int64 (S,) of actions, or float64 (S, A) of action probabilities.
    discount : float
        gamma, in [0, 1).

    Returns
    -------
    Tensor
        float64 (S, S); rows sum to 1 / (1 - gamma). Times the expected reward of the policy it is the policy's value.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import TMaze, successor_representation
    >>> world = TMaze(length=3)
    >>> visits = successor_representation(world.tables, torch.zeros(12, dtype=torch.int64), discount=0.5)
    >>> torch.allclose(visits.sum(1), torch.tensor(1 / (1 - 0.5), dtype=torch.float64))
    True

    References
    ----------
    Dayan 1993, "Improving generalization for temporal difference learning: the successor representation".
    """
    identity = torch.eye(tables.n_states, dtype=torch.float64)
    visits: Tensor = torch.linalg.solve(identity - discount * policy_transition(tables, policy), identity)
    return visits


def policy_transition(tables: FiniteTables, policy: Tensor) -> Tensor:
    """Return P_pi, float64 (S, S), of actions int64 (S,) or action probabilities (S, A)."""
    if policy.ndim == 1:
        return tables.transition[policy, torch.arange(tables.n_states)]
    return torch.einsum("sa,ast->st", policy.double(), tables.transition)


def _q_values(tables: FiniteTables, reward: Tensor, discount: float, values: Tensor) -> Tensor:
    return reward + discount * (tables.transition @ values).T


def _policy_values(tables: FiniteTables, reward: Tensor, discount: float, policy: Tensor) -> Tensor:
    paid = reward.gather(1, policy.unsqueeze(1)).squeeze(1)
    identity = torch.eye(tables.n_states, dtype=torch.float64)
    values: Tensor = torch.linalg.solve(identity - discount * policy_transition(tables, policy), paid)
    return values
