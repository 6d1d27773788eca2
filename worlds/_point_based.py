"""Bounds on what acting under uncertainty can earn, computed at sampled beliefs."""

from __future__ import annotations

import torch
from torch import Tensor

from worldprobe.worlds._belief_mdp import BeliefMdp, merge_equal
from worldprobe.worlds._belief_policy import BeliefPolicy, walk_beliefs

BLUR = 1e-7
"""Share of the average belief mixed into each one, so that plans are also sensible after events it holds impossible."""


def sample_beliefs(mdp: BeliefMdp, policy: BeliefPolicy, n: int, generator: torch.Generator) -> Tensor:
    """Return up to `n` distinct beliefs, those that a policy with a tenth of random actions meets most."""
    steps = list(walk_beliefs(mdp, policy, 1000, 0.1, generator))
    weights = torch.cat([torch.full((len(beliefs),), mdp.discount**t, dtype=torch.float64) for t, _, beliefs, _ in steps])
    beliefs, weights, _ = merge_equal(torch.cat([beliefs for _, _, beliefs, _ in steps]), weights)
    return beliefs[weights.argsort(descending=True)[:n]]


def improve_plans(
    mdp: BeliefMdp, beliefs: Tensor, generator: torch.Generator, *, n_sweeps: int = 100, tolerance: float = 1e-5, batch: int = 32
) -> Tensor:
    """Return vectors (I, S) whose upper surface bounds the optimal value without a time limit from below (Perseus).

    Each sweep backs up random batches of beliefs until every one has improved or kept its value; it ends when no value
    rises by `tolerance` of the largest reward.

    References
    ----------
    Spaan & Vlassis 2005, "Perseus: randomized point-based value iteration for POMDPs".
    """
    vectors = _constant_plans(mdp)
    margin = tolerance * float(mdp.reward.abs().max())
    values = (beliefs @ vectors.T).amax(1)
    for _ in range(n_sweeps):
        vectors = _thin(_sweep(mdp, beliefs, vectors, values, generator, batch), beliefs, margin / 10)
        improved = (beliefs @ vectors.T).amax(1)
        if (improved - values).max() <= margin:
            break
        values = improved
    return _thin(vectors, beliefs, 10 * margin)


def informed_values(mdp: BeliefMdp) -> list[Tensor]:
    """Return for k = 0 .. time_limit steps to go vectors (A, S) with V_k(b) <= max_a b . vectors[a] (fast informed bound).

    References
    ----------
    Hauskrecht 2000, "Value-function approximations for partially observable Markov decision processes".
    """
    vectors = [torch.zeros(mdp.n_actions, mdp.n_states, dtype=torch.float64)]
    for _ in range(mdp.time_limit):
        later = torch.stack([mdp.best(matrix, vectors[-1])[0] for matrix in mdp.matrix])
        vectors.append(mdp.reward.T + mdp.discount * later)
    return vectors


def sawtooth_bound(mdp: BeliefMdp, sampled: Tensor, corners: Tensor) -> float:
    """Return an upper bound on the optimal value of an episode, from backups at the first beliefs and `sampled` ones.

    Elsewhere V_k is bounded by interpolating between one of these points b_i and the corners of the simplex,
    V_k(b) <= c_k . b + min_i min_{s: b_i(s) > 0} b(s) / b_i(s) (V_k(b_i) - c_k . b_i), as V_k is convex, and by the fast informed
    bound. `corners` are the values c_k of known states by steps to go, (time_limit + 1, S).

    References
    ----------
    Hauskrecht 2000; Smith & Simmons 2004, "Heuristic search value iteration for POMDPs".
    """
    points = torch.cat([mdp.first_beliefs, sampled])
    origin, mass, following, which = _all_successors(mdp, points)
    share = torch.stack([(following[:, point > 0] / point[point > 0]).amin(1) for point in points], 1)
    informed = informed_values(mdp)
    values = torch.zeros(len(points), dtype=torch.float64)
    for k in range(mdp.time_limit):
        depth = (values - points @ corners[k]).clamp_max(0)
        bound = torch.minimum(following @ corners[k] + (share * depth).amin(1), (following @ informed[k].T).amax(1))
        acting = (points @ mdp.reward).flatten().index_add(0, origin, mdp.discount * mass * bound[which])
        values = torch.minimum(acting.view(len(points), -1).amax(1), (points @ informed[k + 1].T).amax(1))
    return float(mdp.first_weights @ values[: len(mdp.first_beliefs)])


def _all_successors(mdp: BeliefMdp, beliefs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return belief x action each successor comes from, its probability, the distinct successors, and which one each is."""
    per_action = [mdp.successors(beliefs @ matrix) for matrix in mdp.matrix]
    origin = torch.cat([row * mdp.n_actions + action for action, (row, _, _) in enumerate(per_action)])
    mass = torch.cat([mass for _, _, mass in per_action])
    distinct, _, which = merge_equal(torch.cat([after for _, after, _ in per_action]), mass)
    return origin, mass, distinct, which


def _constant_plans(mdp: BeliefMdp) -> Tensor:
    """Return the value of always taking one action, for every action, (A, S)."""
    going_on = torch.zeros(mdp.n_actions, mdp.n_states, mdp.n_states, dtype=torch.float64).index_add_(2, mdp.state, mdp.matrix)
    vectors: Tensor = torch.linalg.solve(torch.eye(mdp.n_states, dtype=torch.float64) - mdp.discount * going_on, mdp.reward.T)
    return vectors


def _sweep(mdp: BeliefMdp, beliefs: Tensor, vectors: Tensor, values: Tensor, generator: torch.Generator, batch: int) -> Tensor:
    """Back up until no belief is worth less than before."""
    fresh: list[Tensor] = []
    reached = torch.full_like(values, -torch.inf)
    lagging = torch.arange(len(beliefs))
    while lagging.numel():
        chosen = lagging[torch.randperm(lagging.numel(), generator=generator)[:batch]]
        backed_up = _back_up(mdp, beliefs[chosen], vectors)
        former = vectors[(beliefs[chosen] @ vectors.T).argmax(1)]
        is_better = (backed_up * beliefs[chosen]).sum(1) >= values[chosen]
        fresh.append(torch.where(is_better.unsqueeze(1), backed_up, former))
        reached = torch.maximum(reached, (beliefs @ fresh[-1].T).amax(1))
        reached[chosen] = torch.maximum(reached[chosen], values[chosen])
        lagging = (reached < values).nonzero().squeeze(1)
    return torch.cat(fresh)


def _back_up(mdp: BeliefMdp, beliefs: Tensor, vectors: Tensor) -> Tensor:
    """Return for each belief the best plan that takes one action and then follows one of `vectors` after every event."""
    blurred = (1 - BLUR) * beliefs + BLUR * beliefs.mean(0)
    chosen = [mdp.best(blurred @ matrix, vectors) for matrix in mdp.matrix]
    q_values = blurred @ mdp.reward + mdp.discount * torch.stack([later for later, _ in chosen], 1)
    event = torch.cat([torch.full((columns.stop - columns.start,), index) for index, columns in enumerate(mdp.events)])
    backed_up = torch.empty_like(beliefs)
    for action, matrix in enumerate(mdp.matrix):
        rows = (q_values.argmax(1) == action).nonzero().squeeze(1)
        followed = vectors[chosen[action][1][rows][:, event], mdp.state]
        backed_up[rows] = mdp.reward[:, action] + mdp.discount * followed @ matrix.T
    return backed_up


def _thin(vectors: Tensor, beliefs: Tensor, tolerance: float) -> Tensor:
    """Keep a few vectors whose upper surface is within `tolerance` of all of them at every belief."""
    scores = beliefs @ vectors.T
    best, owner = scores.max(1)
    kept = [int(owner.bincount().argmax())]
    surface = scores[:, kept[0]]
    while (best - surface).max() > tolerance:
        kept.append(int(owner[(best - surface).argmax()]))
        surface = torch.maximum(surface, scores[:, kept[-1]])
    return vectors[kept]
