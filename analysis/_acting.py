"""Letting an edited agent act, and keeping what its core held."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldprobe.agents import EditableAgent, EditedAgent, agent_inputs
from worldprobe.worlds import State, World


@dataclass(frozen=True, eq=False)
class Acted:
    """Whole episodes, row by row: n rows, one per step."""

    inputs: Tensor
    """What the agent took in, float32 (n, input_size)."""
    before: Tensor
    """The edited sites as the core left them, float32 (n, width)."""
    after: Tensor
    """The same after the edit."""
    factors: dict[str, Tensor]
    """True factors, (n,) or (n, size)."""
    episode: Tensor
    """Episode of each row, int64 (n,)."""


@torch.no_grad()
def act_out(
    agent: EditedAgent, world: World, n_episodes: int, generator: torch.Generator, epsilon: float = 0.0, n_envs: int = 256
) -> Acted:
    """Let an agent act under its edit, an equal number of whole episodes in every environment.

    Parameters
    ----------
    agent : EditedAgent
        Acts greedily but for `epsilon`.
    world : World
        Where.
    n_episodes : int
        Episodes, rounded up to the same number for each environment.
    generator : torch.Generator
        Source of all chance.
    epsilon : float
        Probability of a uniform action.
    n_envs : int
        Largest number of environments at once.

    Returns
    -------
    Acted
    """
    n = min(n_envs, n_episodes)
    quota, driver = -(-n_episodes // n), world.driver(n, generator)
    state, reset, number = agent.initial_state(n), torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.int64)
    action, reward = torch.full((n,), -1), torch.zeros(n)
    rows: list[dict[str, Tensor]] = []
    while bool((number < quota).any()):
        inputs = agent_inputs(driver.observation, action, reward, agent.channels, agent.n_actions)
        _, moved = agent.agent.step(inputs, state, reset)
        state = agent.edited(inputs, moved)
        held = {"inputs": inputs, "before": moved[:, agent.columns], "after": state[:, agent.columns]}
        factors = {f"factor/{name}": values.clone() for name, values in driver.factor_values().items()}
        rows.append({**held, **factors, "episode": torch.where(number < quota, torch.arange(n) * quota + number, -1)})
        explores = torch.rand(n, generator=generator) < epsilon
        greedy = agent.values(inputs, state).argmax(1)
        action = torch.where(explores, torch.randint(agent.n_actions, (n,), generator=generator), greedy)
        step = driver.step(action)
        reset = step.terminated | step.truncated
        number = number + reset
        action, reward = action.masked_fill(reset, -1), step.reward.masked_fill(reset, 0.0)
    kept = torch.cat([row["episode"] for row in rows]) >= 0
    gathered = {name: torch.cat([row[name] for row in rows])[kept] for name in rows[0]}
    true = {name.removeprefix("factor/"): values for name, values in gathered.items() if name.startswith("factor/")}
    return Acted(gathered["inputs"], gathered["before"], gathered["after"], true, gathered["episode"])


@torch.no_grad()
def play_on(
    agent: EditableAgent, world: World, state: State, core: Tensor, inputs: Tensor, steps: Tensor, generator: torch.Generator
) -> Tensor:
    """Let an agent act greedily to the end of episodes that stand somewhere, and return what it earns from there on.

    Parameters
    ----------
    agent : EditableAgent
    world : World
        Gives "simulation".
    state : State
        Where the episodes stand, leading dimension n.
    core : Tensor
        Core states (n, state_size) that took in `inputs` (n, input_size).
    steps : Tensor
        int64 (n,): steps that the episodes have behind them.
    generator : torch.Generator
        Source of all chance.

    Returns
    -------
    Tensor
        float64 (n,): discounted returns.
    """
    earned, weight = torch.zeros(len(core), dtype=torch.float64), 1.0
    alive, goes_on = torch.ones(len(core), dtype=torch.bool), torch.zeros(len(core), dtype=torch.bool)
    while bool(alive.any()):
        action = agent.values(inputs, core).argmax(1)
        state, reward, terminated = world.step(state, action, generator)
        earned += weight * reward.double() * alive
        weight, steps = weight * world.discount, steps + 1
        alive &= ~terminated & (steps < world.time_limit)
        inputs = agent_inputs(world.observe(state, generator), action, reward, agent.channels, agent.n_actions)
        _, core = agent.step(inputs, core, goes_on)
    return earned
