"""The own update without the world: observations are withheld, or made up by the agent's own read-out of what comes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.activations import recorded_belief, replay
from worldprobe.agents import Agent, agent_inputs
from worldprobe.analysis._examine import Examination
from worldprobe.analysis._measurement import Measurement, measure
from worldprobe.analysis._own_update import Future
from worldprobe.analysis._recorded_agent import RecordedAgent
from worldprobe.probes import TransitionProbe

Floats = NDArray[np.float64]
Feed = Literal["withheld", "decoded"]


def closed_loop(examination: Examination, feed: Feed = "decoded") -> list[Measurement]:
    r"""Score the own update where the world shows nothing any more: E_closed(k) = (L_stay - L_closed) / (L_stay - L_push).

    From recorded steps on, the core is stepped under the actions of the forks, but what it sees is zeros ("withheld"), or what a
    `TransitionProbe` of its own state reads as the next observation ("decoded"); rewards are none. The decoder of the state is frozen. The
    ceiling is the exact belief pushed through the same actions without observations (given that the episode goes on), the floor
    the agent's present state, left as it is. It asks whether the core alone can carry a simulation; an update that only filters what is
    shown scores low here, and is still a model in the sense of the open loop.

    Parameters
    ----------
    examination : Examination
    feed : {"decoded", "withheld"}

    Returns
    -------
    list of Measurement
        Quantity "own-update-decoded" or "own-update-withheld" for every factor and step; none where the world cannot be forked and
        filtered.
    """
    agent = examination.agent
    if not examination.can_fork or isinstance(agent, RecordedAgent):
        return []
    future = examination.future
    states = replay(agent, examination.stream.recording, ("core.state",))["core.state"]
    sites = _stepped_blind(examination, agent, states, feed)
    stay = np.repeat(examination.hidden.rows(0)[future.forks.rows][:, None], future.horizon, axis=1)
    read = examination.decoder.read_forks
    losses = [examination.stream.labels.losses(future.targets, read(future.forks, values)) for values in (stay, sites)]
    ceiling = examination.stream.labels.losses(future.targets, _pushed(examination, future))
    cell = examination.cell(f"own-update-{feed}", "stays as it is")
    return [
        measure(future.loss_sums(losses[0], losses[1], ceiling, factor.name, k), cell, factor, k)
        for factor in examination.stream.labels.factors
        for k in range(1, future.horizon + 1)
    ]


def _stepped_blind(examination: Examination, agent: Agent, states: NDArray[np.float32], feed: Feed) -> NDArray[np.float32]:
    """Return the headline site after each step that nothing was shown at, (n_forks, horizon, width)."""
    forks, site, shape = examination.future.forks, examination.hidden.site, examination.world.observation_shape
    probe = _observation_probe(examination) if feed == "decoded" else None
    state, steps = torch.from_numpy(states[forks.rows]).clone(), []
    hidden = examination.hidden.rows(0)[forks.rows]
    for k in range(forks.horizon):
        action = forks.action[:, k]
        shown = np.zeros((len(forks), int(np.prod(shape)))) if probe is None else probe.predict(hidden, action)
        observation = torch.from_numpy(shown.astype(np.float32)).reshape(len(forks), *shape)
        inputs = agent_inputs(observation, torch.from_numpy(action), torch.zeros(len(forks)), agent.channels, agent.n_actions)
        values = agent.activations(inputs.unsqueeze(0), state)
        state, hidden = values["core.state"][0], values[site][0].numpy()
        steps.append(hidden)
    return np.stack(steps, axis=1)


def _observation_probe(examination: Examination) -> TransitionProbe:
    """Fit what the agent's state and the action taken say of the next observation, on recorded rows."""
    stream = examination.stream
    rows = np.flatnonzero((stream.groups[:-1] == stream.groups[1:]) & (stream.folds[:-1] >= 0))
    seen = stream.recording["observation"][:].reshape(len(stream.groups), -1)
    taken = np.asarray(stream.recording["action"][:])[rows]
    return TransitionProbe("per-action").fit(examination.hidden.rows(0)[rows], taken, seen[rows + 1], groups=stream.groups[rows])


def _pushed(examination: Examination, future: Future) -> Floats:
    """Return the labels that the exact belief at the fork expects after each step, nothing being observed but that the episode goes on."""
    world, forks, labels = examination.world, future.forks, examination.stream.labels
    generator = torch.Generator().manual_seed(examination.config.seed)
    belief, blind = recorded_belief(examination.stream.recording, world, forks.rows, generator), world.belief_filter(frozenset({"action"}))
    unpaid = torch.zeros(len(forks))
    nothing, ended = torch.zeros(len(forks), *world.observation_shape), torch.zeros(len(forks), dtype=torch.bool)
    steps = []
    for k in range(forks.horizon):
        belief = blind.update(belief, torch.from_numpy(forks.action[:, k]), unpaid, nothing, ended, generator)
        steps.append(labels.encode_expected({name: each.numpy() for name, each in world.expect_factors(belief).items()}))
    return np.stack(steps, axis=1).astype(np.float64)
