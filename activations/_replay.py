"""Running a network over episodes that are already there: sites of the recorded agent, of its twins, of anybody."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from worldprobe.activations._episodes import Array, Episodes, by_length, received, stretches
from worldprobe.activations._files import RecordingError
from worldprobe.activations._reader import Recording, load_episodes
from worldprobe.agents import Agent

LARGEST_PASS = 2**25
"""Numbers that all sites of one pass may hold together (128 MiB): bounds the memory whatever the length."""


def replay(agent: Agent, recording: Recording, sites: Sequence[str] = ("core.h",)) -> dict[str, Array]:
    """Run an agent over the recorded histories and return its sites in memory: twins, checkpoints, planted agents.

    The agent receives o_t, a_{t-1} and r_{t-1} as they were recorded and chooses nothing; each episode starts from its
    initial state. Row t is after o_t.

    Parameters
    ----------
    agent : Agent
        Receives the channels that the recording's beliefs condition on.
    recording : Recording
        Whose episodes it is run on.
    sites : sequence of str
        Names of `agent.sites`, or "core.state", the flat state from which `fork_core` goes on.

    Returns
    -------
    dict of str to ndarray
        Site to float32 (n_steps, width), rows as in the recording.

    Raises
    ------
    KeyError
        If the agent has no such site; the message lists those it has.
    RecordingError
        If the agent does not fit the recording's world and channels, or returns a site of another shape than it promised.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.activations import CommonBehaviour, record, replay
    >>> from worldprobe.agents import NetworkConfig, make_network
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> twin = make_network(world, NetworkConfig(hidden_size=8), seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with record(None, world, f"{folder}/common.wpr", CommonBehaviour(world), n_episodes=10, seed=0) as recording:
    ...         replay(twin, recording)["core.h"].shape == (recording.n_steps, 8)
    True
    """
    check_fit(agent, recording)
    return run_agent(agent, load_episodes(recording, ("observation", "action", "reward")), sites)


def received_inputs(recording: Recording) -> Array:
    """Return what an agent with the recording's channels received at each row: o_t, a_{t-1} one-hot, r_{t-1} if a channel.

    Returns
    -------
    ndarray
        float32 (n_steps, input_size); zeros stand for the action and reward before an episode's first step.

    Examples
    --------
    >>> import tempfile
    >>> from worldprobe.activations import CommonBehaviour, received_inputs, record
    >>> from worldprobe.worlds import make_world
    >>> world = make_world("tmaze")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with record(None, world, f"{folder}/common.wpr", CommonBehaviour(world), n_episodes=10, seed=0) as recording:
    ...         received_inputs(recording).shape == (recording.n_steps, 4 + 4)
    True
    """
    episodes = load_episodes(recording, ("observation", "action", "reward"))
    return received(episodes, recording.channels, len(recording.identity.world["actions"])).numpy()


@torch.no_grad()
def run_agent(agent: Agent, episodes: Episodes, sites: Sequence[str]) -> dict[str, Array]:
    """Return sites (n_steps, width) of an agent run over episodes: all of them at once, as far as the shortest goes, and so on."""
    widths = check_sites(agent, sites)
    inputs = received(episodes, agent.channels, agent.n_actions)
    if inputs.shape[1] != agent.input_size:
        raise RecordingError(f"agent {agent.name!r} expects {agent.input_size} inputs per step; the episodes give {inputs.shape[1]}")
    arrays = {site: np.empty((episodes.n_steps, width), np.float32) for site, width in widths.items()}
    start, largest = episodes.start, LARGEST_PASS // (sum(agent.sites.values()) + agent.state_size)
    for group in by_length(episodes.length, largest):
        state = agent.initial_state(group.size)
        for n, begin, end in stretches(episodes.length[group]):
            rows = start[group[:n]] + np.arange(begin, end)[:, None]
            values = agent.activations(inputs[torch.from_numpy(rows)], state[:n])
            state = values["core.state"][-1]
            for site, array in arrays.items():
                array[rows] = _checked(values[site], (*rows.shape, widths[site]), site, agent)
    return arrays


def _checked(values: Tensor, expected: tuple[int, ...], site: str, agent: Agent) -> Array:
    """Return a site as an array if it has the shape that the agent promised."""
    if tuple(values.shape) != expected:
        raise RecordingError(f"site {site!r} of agent {agent.name!r} came with shape {tuple(values.shape)}; it promised {expected}")
    return values.numpy()


def check_sites(agent: Agent, sites: Sequence[str]) -> dict[str, int]:
    """Return the widths of sites.

    Raises
    ------
    KeyError
        If the agent has no such site; the message lists those it has.
    """
    widths = {**agent.sites, "core.state": agent.state_size}
    unknown = [site for site in sites if site not in widths]
    if unknown:
        raise KeyError(f"agent {agent.name!r} has no site {', '.join(map(repr, unknown))}; it has {', '.join(widths)}")
    return {site: widths[site] for site in sites}


def check_fit(agent: Agent, recording: Recording) -> None:
    """Raise `RecordingError` unless the agent receives what the recording's beliefs condition on, and acts in its world."""
    identity = recording.identity
    if sorted(agent.channels) != sorted(identity.channels):
        raise RecordingError(
            f"agent {agent.name!r} receives {sorted(agent.channels)}, but the beliefs in {recording.path} condition on "
            f"{sorted(identity.channels)}: record a stream with the agent's channels"
        )
    if agent.n_actions != len(identity.world["actions"]):
        expected = len(identity.world["actions"])
        raise RecordingError(f"agent {agent.name!r} has {agent.n_actions} actions; world {recording.world_name!r} has {expected}")
