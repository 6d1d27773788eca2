"""The best that can be earned by an agent that receives only some channels: J*, or what it lies between."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from worldprobe.worlds._belief_mdp import BeliefMdp, belief_mdp
from worldprobe.worlds._belief_policy import BeliefPolicy, LookaheadPolicy, StatePolicy, evaluate_policy
from worldprobe.worlds._counterfeit import acting_states
from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._irrelevant import IrrelevantWorld
from worldprobe.worlds._mdp import solve_mdp, solve_mdp_horizon
from worldprobe.worlds._point_based import improve_plans, informed_values, sample_beliefs, sawtooth_bound
from worldprobe.worlds._world import World

EXACT = 1e-6
"""Bounds that meet within this are one number."""


@dataclass(frozen=True)
class PomdpSolution:
    """J*, the greatest expected discounted return of an episode cut at the time limit, or its bounds."""

    lower: float
    """What `policy` earns."""
    upper: float
    """What no policy that receives only these channels can exceed."""
    exact: bool
    """Whether both are the same number."""
    undiscounted: float
    """Expected plain return of `policy`."""
    standard_error: float
    """Of `lower`; 0 where it was computed without sampling."""
    method: str
    """How each bound was found."""
    policy: BeliefPolicy
    channels: frozenset[str]


def solve_pomdp(world: World, channels: frozenset[str], *, n_beliefs: int = 1000, seed: int = 0) -> PomdpSolution:
    """Bound the greatest expected discounted return over an episode, and give a belief policy that earns the lower bound.

    QMDP is tried first: where it earns what the fast informed bound allows, that is J*. It is J*, too, where no action moves the world
    and rewards are no channel: nothing that is done then changes what can be earned or known later. Elsewhere the better of it and
    randomised point-based value iteration is the lower bound, and a point-based (sawtooth) bound the upper one.

    Parameters
    ----------
    world : World
        A world that gives "optimum": a finite one, or one with irrelevant variables added.
    channels : frozenset of str
        What the agent receives; holds "action".
    n_beliefs : int
        Number of sampled beliefs that the point-based methods work at.
    seed : int
        Seed of that sampling.

    Returns
    -------
    PomdpSolution
        Both bounds, how they were found, and the policy.

    Raises
    ------
    Unavailable
        If the world has no tables to solve.

    Examples
    --------
    >>> from worldprobe.worlds import TMaze, solve_pomdp
    >>> solution = solve_pomdp(TMaze(length=10, stochasticity=0.0), frozenset({"observation", "action"}))
    >>> solution.exact, round(solution.undiscounted, 6), round(solution.lower - 4 * 0.98**10, 6)
    (True, 4.0, 0.0)
    """
    core = finite_core(world)
    mdp = belief_mdp(core, channels)
    policy: BeliefPolicy = StatePolicy(solve_mdp(core.tables, core.discount).q_values)
    value = evaluate_policy(mdp, policy)
    upper = float(mdp.first_weights @ (mdp.first_beliefs @ informed_values(mdp)[-1].T).amax(1))
    names = ("QMDP", "fast informed bound")
    if "reward" not in channels and not acting_states(core.tables).any():
        upper, names = value.discounted, ("QMDP", "the same, as no action moves this world")
    if upper - value.discounted > EXACT:
        generator = torch.Generator().manual_seed(seed)
        planned = _plan(mdp, policy, n_beliefs, generator)
        planned_value = evaluate_policy(mdp, planned)
        if planned_value.discounted > value.discounted:
            policy, value, names = planned, planned_value, ("point-based value iteration", names[1])
        corners = solve_mdp_horizon(core.tables, core.discount, core.time_limit).values.flip(0)
        upper = min(upper, sawtooth_bound(mdp, sample_beliefs(mdp, planned, n_beliefs, generator), corners))
        names = (names[0], "sawtooth bound")
    return PomdpSolution(
        lower=value.discounted,
        upper=max(upper, value.discounted) if value.standard_error == 0 else upper,
        exact=value.standard_error == 0 and upper - value.discounted <= EXACT,
        undiscounted=value.undiscounted,
        standard_error=value.standard_error,
        method=f"lower: {names[0]}, by {value.method}; upper: {names[1]}",
        policy=policy,
        channels=channels,
    )


def _plan(mdp: BeliefMdp, policy: BeliefPolicy, n_beliefs: int, generator: torch.Generator) -> BeliefPolicy:
    """Plan at the beliefs that `policy` meets, then once more at those that the plan meets."""
    for _ in range(2):
        beliefs = sample_beliefs(mdp, policy, n_beliefs, generator)
        policy = LookaheadPolicy(mdp, improve_plans(mdp, beliefs, generator))
    return policy


def finite_core(world: World) -> FiniteWorld:
    """Return the finite world that decides what can be earned: the world itself, or what irrelevant variables were added to.

    Raises
    ------
    Unavailable
        If there is none.

    Examples
    --------
    >>> from worldprobe.worlds import finite_core, make_world
    >>> finite_core(make_world("tmaze-irrelevant")).name
    'tmaze'
    """
    if isinstance(world, FiniteWorld):
        return world
    if isinstance(world, IrrelevantWorld):
        return finite_core(world.inner)
    raise world.unavailable("tables to solve")
