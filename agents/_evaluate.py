"""How well an agent does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.agents._agent import Agent
from worldprobe.agents._rollout import Actor
from worldprobe.worlds import World


@dataclass(frozen=True)
class EvaluationResult:
    """Returns of complete episodes; every mean comes with its standard error."""

    n_episodes: int
    mean_return: float
    """Mean sum of rewards."""
    standard_error: float
    mean_discounted_return: float
    """Mean of sum_t gamma^t r_t, with the world's gamma."""
    discounted_standard_error: float
    mean_length: float
    """Mean number of steps."""


def evaluate_return(
    agent: Agent, world: World, n_episodes: int, generator: torch.Generator, *, epsilon: float = 0.0, n_envs: int = 256
) -> EvaluationResult:
    """Let an agent act and average over the same number of episodes of every environment.

    "The first n that finish" would favour short episodes; here each of the environments contributes its first
    ceil(n_episodes / n_envs) episodes, whatever their length.

    Parameters
    ----------
    agent : Agent
        Who acts, greedily but for `epsilon`.
    world : World
        Where.
    n_episodes : int
        Smallest number of episodes (rounded up to the same number for each environment).
    generator : torch.Generator
        Source of all chance.
    epsilon : float
        Probability of an undirected exploratory action.
    n_envs : int
        Largest number of environments at once.

    Raises
    ------
    ValueError
        If `n_episodes` or `n_envs` is below 1, or `epsilon` outside [0, 1].

    Examples
    --------
    >>> import torch
    >>> from worldprobe.agents import NetworkConfig, evaluate_return, make_network
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> network = make_network(world, NetworkConfig(hidden_size=8), seed=0)
    >>> evaluate_return(network, world, 20, torch.Generator().manual_seed(0), n_envs=16).n_episodes
    32
    """
    if n_episodes < 1 or n_envs < 1 or not 0 <= epsilon <= 1:
        raise ValueError(f"expected n_episodes >= 1, n_envs >= 1 and epsilon in [0, 1]; got {n_episodes}, {n_envs} and {epsilon}")
    n_envs = min(n_envs, n_episodes)
    quota = math.ceil(n_episodes / n_envs)
    totals = _play(Actor(agent, world.driver(n_envs, generator), generator), n_envs, quota, world.discount, epsilon)
    n = totals.shape[1]
    mean = totals.mean(1).tolist()
    error = (totals.std(1, correction=0) / math.sqrt(n - 1)).tolist() if n > 1 else [math.nan] * 3
    return EvaluationResult(n, mean[0], error[0], mean[1], error[1], mean[2])


def _play(actor: Actor, n_envs: int, quota: int, discount: float, epsilon: float) -> Tensor:
    """Return (return, discounted return, length) of the first `quota` episodes of every environment, float64 (3, n)."""
    running = torch.zeros(3, n_envs, dtype=torch.float64)
    finished: list[Tensor] = []
    missing = torch.full((n_envs,), quota)
    while bool((missing > 0).any()):
        step = actor.act(epsilon).step
        running[0] += step.reward
        running[1] += step.reward * discount ** running[2]
        running[2] += 1
        finished.append(running[:, step.done][:, missing[step.done] > 0])
        missing[step.done] -= 1
        running[:, step.done] = 0.0
    return torch.cat(finished, 1)
