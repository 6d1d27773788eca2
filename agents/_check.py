"""Whether an agent keeps its contract: a wrong alignment or a hidden memory would make every measurement on it wrong."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from worldprobe.agents._agent import Agent, agent_inputs, count_inputs
from worldprobe.agents._seeds import seeded_generator
from worldprobe.worlds import World, categorical, check_channels

TOLERANCE = 1e-4
"""Largest difference between two ways to the same numbers, relative to the largest of them where that is above 1."""


class AgentContractError(ValueError):
    """An agent does not keep what the `Agent` protocol promises."""


def check_agent(agent: Agent, world: World, *, n_steps: int = 8, n_envs: int = 16) -> None:
    """Check on a short stretch of random actions that an agent is what recordings and forks take it for.

    Checked are its attributes; shapes, types and finiteness of all that it gives; that `step` and `activations` agree on Q
    and core state; that the core state is all that is carried (a stretch can be cut anywhere, rows do not touch each other,
    repeating a call repeats its answer); that a reset ends the past of its own row alone; and that nothing is changed in place.

    Parameters
    ----------
    agent : Agent
        Whom to check.
    world : World
        Where it is to live.
    n_steps, n_envs : int
        Length of the stretch, at least 2, and number of environments; those whose first episode is shorter are left out.

    Raises
    ------
    AgentContractError
        If the contract is broken; the message says where and what to mend.

    Examples
    --------
    >>> from worldprobe.agents import NetworkConfig, check_agent, make_network
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> check_agent(make_network(world, NetworkConfig(hidden_size=8), seed=0), world)
    """
    _check_attributes(agent, world)
    inputs = _lived_inputs(agent, world, n_steps, n_envs)
    state = agent.initial_state(inputs.shape[1])
    kept = inputs.clone(), state.clone()
    sites = agent.activations(inputs, state)
    _check_shapes(agent, inputs, state, sites)
    if not torch.equal(inputs, kept[0]) or not torch.equal(state, kept[1]):
        raise AgentContractError(f"agent {agent.name!r} changed its arguments in place: work on copies")
    _check_steps(agent, inputs, state, sites)
    _check_markov(agent, inputs, state, sites)
    _check_reset(agent, inputs, sites["core.state"][-1])


def _check_attributes(agent: object, world: World) -> None:
    if not isinstance(agent, Agent):
        names = ("name", "channels", "n_actions", "input_size", "state_size", "sites", "initial_state", "step", "activations")
        raise AgentContractError(f"{type(agent).__name__} lacks {', '.join(name for name in names if not hasattr(agent, name))}")
    check_channels(agent.channels)
    expected = {"n_actions": world.n_actions, "input_size": count_inputs(world, agent.channels)}
    for name, value in expected.items():
        if getattr(agent, name) != value:
            raise AgentContractError(f"agent {agent.name!r} has {name} {getattr(agent, name)}; in world {world.name!r} it must be {value}")
    if "core.h" not in agent.sites or agent.sites.get("q") != world.n_actions or "core.state" in agent.sites:
        raise AgentContractError(f"sites must hold 'core.h' and 'q' of width {world.n_actions}, and not 'core.state'; got {agent.sites}")


def _lived_inputs(agent: Agent, world: World, n_steps: int, n_envs: int) -> Tensor:
    """Return inputs (T, n, input_size) of first episodes under random actions, of environments in which they last so long."""
    generator = seeded_generator(0, "contract")
    driver = world.driver(n_envs, generator)
    action, reward, running = torch.full((n_envs,), -1), torch.zeros(n_envs), torch.ones(n_envs, dtype=torch.bool)
    exploration, observation, rows = torch.tensor(world.exploration).expand(n_envs, -1), driver.observation, []
    for _ in range(n_steps):
        rows.append(agent_inputs(observation, action, reward, agent.channels, agent.n_actions))
        kept = running
        action = categorical(exploration, generator)
        step = driver.step(action)
        observation, reward, running = step.observation, step.reward, running & ~(step.terminated | step.truncated)
    if n_steps < 2 or kept.sum() < 2:
        raise ValueError(f"expected at least 2 steps and 2 episodes that last them; got {n_steps} and {int(kept.sum())}: change n_steps")
    return torch.stack(rows)[:, kept]


def _check_shapes(agent: Agent, inputs: Tensor, state: Tensor, sites: Mapping[str, Tensor]) -> None:
    length, n, _ = inputs.shape
    q, after = agent.step(inputs[0], state, torch.ones(n, dtype=torch.bool))
    given = {"initial_state": state, "step's q": q, "step's state": after} | {f"site {name!r}": values for name, values in sites.items()}
    widths = {**agent.sites, "core.state": agent.state_size}
    expected: dict[str, tuple[int, ...]] = {"initial_state": (n, agent.state_size), "step's state": (n, agent.state_size)}
    expected |= {"step's q": (n, agent.n_actions)} | {f"site {name!r}": (length, n, width) for name, width in widths.items()}
    if given.keys() != expected.keys():
        raise AgentContractError(f"`activations` of agent {agent.name!r} must return {sorted(widths)}; got {sorted(sites)}")
    for name, values in given.items():
        if tuple(values.shape) != expected[name] or values.dtype != torch.float32 or values.requires_grad or not values.isfinite().all():
            got = f"{values.dtype} {tuple(values.shape)}{', with a gradient' * values.requires_grad}"
            got += "" if values.isfinite().all() else ", not all finite"
            raise AgentContractError(
                f"{name} of agent {agent.name!r} must be finite float32 {expected[name]} without a gradient; got {got}"
            )


def _check_steps(agent: Agent, inputs: Tensor, state: Tensor, sites: Mapping[str, Tensor]) -> None:
    for t, received in enumerate(inputs):
        q, state = agent.step(received, state, torch.zeros(len(state), dtype=torch.bool))
        for name, stepped in (("q", q), ("core.state", state)):
            _same(agent, stepped, sites[name][t], f"{name!r} of `step` and of `activations` differ at step {t}: row t is after o_t in both")


def _check_markov(agent: Agent, inputs: Tensor, state: Tensor, sites: Mapping[str, Tensor]) -> None:
    cut = len(inputs) // 2
    again, rest = agent.activations(inputs, state), agent.activations(inputs[cut:], sites["core.state"][cut - 1])
    alone = agent.activations(inputs[:, 1:], state[1:])
    for name, values in sites.items():
        _same(agent, again[name], values, f"{name!r} differs when the same call is repeated: chance and memory belong into the core state")
        _same(agent, rest[name], values[cut:], f"{name!r} differs when a stretch is cut: all memory belongs into the core state")
        _same(agent, alone[name], values[:, 1:], f"{name!r} of a row depends on other rows: batch statistics must be frozen")


def _check_reset(agent: Agent, inputs: Tensor, lived: Tensor) -> None:
    n = len(lived)
    reset = torch.arange(n) % 2 == 0
    q, after = agent.step(inputs[0], lived, reset)
    q_running, running = agent.step(inputs[0], lived, torch.zeros(n, dtype=torch.bool))
    for name, mixed, plain in (("q", q, q_running), ("core.state", after, running)):
        _same(agent, mixed[~reset], plain[~reset], f"{name!r} of a row changes when another row is reset")
    _same(
        agent, *_first_q(agent, inputs[0, 0], lived[0]), "Q after a reset depends on the episode before it: begin anew where `reset` holds"
    )


def _first_q(agent: Agent, received: Tensor, lived: Tensor) -> tuple[Tensor, Tensor]:
    """Return Q of one first input, after a reset from a lived core state and in a first episode."""
    pasts, reset = torch.stack([lived, agent.initial_state(1)[0]]), torch.ones(2, dtype=torch.bool)
    q, _ = agent.step(received.expand(2, -1), pasts, reset)
    return q[0], q[1]


def _same(agent: Agent, left: Tensor, right: Tensor, otherwise: str) -> None:
    gap = (left - right).abs().max().item()
    if not gap <= TOLERANCE * max(1.0, right.abs().max().item()):
        raise AgentContractError(f"agent {agent.name!r} breaks its contract by {gap:.1e}: {otherwise}")
