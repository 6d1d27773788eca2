"""Policies on beliefs of finite worlds, and what they are worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.worlds._belief_mdp import BeliefMdp, merge_equal
from worldprobe.worlds._world import Belief, categorical

TIE = 1e-9
"""Actions whose values differ by less are equally good; the first of them is taken."""


class BeliefPolicy(ABC):
    """Acts greedily on values of beliefs."""

    @abstractmethod
    def q_values(self, belief: Belief) -> Tensor:
        """Return the value of every action, float64 (n, A), in each belief (n, S)."""

    def action(self, belief: Belief) -> Tensor:
        """Return the best action, int64 (n,); the first one of a tie."""
        q_values = self.q_values(belief)
        return (q_values >= q_values.amax(1, keepdim=True) - TIE).long().argmax(1)


@dataclass(frozen=True, eq=False)
class StatePolicy(BeliefPolicy):
    """QMDP: Q(b, a) = sum_s b(s) Q*(s, a), as if the state were seen from the next step on.

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds import RedLight, StatePolicy, solve_mdp
    >>> world = RedLight()
    >>> policy = StatePolicy(solve_mdp(world.tables, world.discount).q_values)
    >>> policy.action(world.point_belief({"state": torch.arange(6)})).tolist()
    [0, 0, 0, 0, 1, 1]

    References
    ----------
    Littman, Cassandra & Kaelbling 1995, "Learning policies for partially observable environments: scaling up".
    """

    state_values: Tensor
    """float64 (S, A): Q* of the states."""

    def q_values(self, belief: Belief) -> Tensor:
        """Return the value of every action, float64 (n, A), in each belief (n, S)."""
        return belief["state"] @ self.state_values


@dataclass(frozen=True, eq=False)
class LookaheadPolicy(BeliefPolicy):
    """Q(b, a) = r(b, a) + gamma sum_e P(e | b, a) max_i v_i . b_{a,e}: one exact step, then the best of fixed plans."""

    mdp: BeliefMdp
    vectors: Tensor
    """float64 (I, S): the value of each plan from each state."""

    def q_values(self, belief: Belief) -> Tensor:
        """Return the value of every action, float64 (n, A), in each belief (n, S)."""
        return belief["state"] @ self.mdp.reward + self.mdp.discount * self.mdp.after(belief["state"], self.vectors)


@dataclass(frozen=True)
class PolicyValue:
    """Expected return of a policy over an episode cut at the time limit."""

    discounted: float
    undiscounted: float
    standard_error: float
    """Of `discounted`; 0 if no chance was involved."""
    method: str


def evaluate_policy(mdp: BeliefMdp, policy: BeliefPolicy, *, limit: int = 2000, slack: float = 1e-3) -> PolicyValue:
    """Return the policy's expected return by following every belief it can reach.

    At each step equal beliefs are merged, and beyond `limit` of them the least likely ones are given up: they count as
    earning the least that any step can pay, so the result is a lower bound. If that gives away more than `slack` of the largest
    possible return, the value is a Monte-Carlo estimate instead, and says so.
    """
    least = min(0.0, mdp.reward.min().item())
    value, total, lost = 0.0, 0.0, 0.0
    beliefs, weights = mdp.first_beliefs, mdp.first_weights
    for t in range(mdp.time_limit):
        action = policy.action({"state": beliefs})
        paid = float(weights @ mdp.paid(beliefs, action)) + lost * least
        value, total = value + mdp.discount**t * paid, total + paid
        row, after, mass = mdp.successors(mdp.advance(beliefs, action))
        beliefs, weights, _ = merge_equal(after, mass * weights[row])
        order = weights.argsort(descending=True)
        lost += float(weights[order[limit:]].sum())
        beliefs, weights = beliefs[order[:limit]], weights[order[:limit]]
    if lost > slack:
        return _estimate_policy(mdp, policy)
    given_up = f" (beliefs of total probability {lost:.1e} counted at the worst reward)" if lost > 0 else ""
    return PolicyValue(value, total, 0.0, f"enumeration of its beliefs{given_up}")


def walk_beliefs(
    mdp: BeliefMdp, policy: BeliefPolicy, n: int, epsilon: float, generator: torch.Generator
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Yield (t, running episodes (m,), their beliefs (m, S), actions (m,)) of `n` episodes, an `epsilon` of actions uniform."""
    episodes = torch.arange(n)
    beliefs = mdp.first_beliefs[categorical(mdp.first_weights.expand(n, -1), generator)]
    for t in range(mdp.time_limit):
        uniform = torch.randint(mdp.n_actions, (len(beliefs),), generator=generator)
        explores = torch.rand(len(beliefs), generator=generator) < epsilon
        action = torch.where(explores, uniform, policy.action({"state": beliefs}))
        yield t, episodes, beliefs, action
        joint = mdp.advance(beliefs, action)
        masses = mdp.event_masses(joint)
        event = categorical(torch.cat([masses, (1 - masses.sum(1, keepdim=True)).clamp_min(0)], 1), generator)
        rows = [(event == index).nonzero().squeeze(1) for index in range(len(mdp.events))]
        beliefs = torch.cat([mdp.land(joint[row], taken) for row, taken in zip(rows, mdp.events, strict=True)])
        episodes = episodes[torch.cat(rows)]


def _estimate_policy(mdp: BeliefMdp, policy: BeliefPolicy, n: int = 10_000, seed: int = 0) -> PolicyValue:
    """Estimate the policy's value from `n` sampled episodes, whose rewards are replaced by their expectation."""
    value, total = torch.zeros(2, n, dtype=torch.float64)
    for t, episodes, beliefs, action in walk_beliefs(mdp, policy, n, 0.0, torch.Generator().manual_seed(seed)):
        paid = mdp.paid(beliefs, action)
        value[episodes] += mdp.discount**t * paid
        total[episodes] += paid
    error = float(value.std() / n**0.5)
    return PolicyValue(float(value.mean()), float(total.mean()), error, f"Monte Carlo over {n} episodes (standard error {error:.1e})")
