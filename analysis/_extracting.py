"""What the agent's values imply about the law, as rows of the results table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from worldprobe.agents import Agent
from worldprobe.analysis._bellman_inversion import QTable, invert_bellman
from worldprobe.analysis._examine import Examination
from worldprobe.analysis._extraction import ExtractedModel
from worldprobe.analysis._measurement import Measurement, compared, exact, not_compared
from worldprobe.analysis._recorded_agent import RecordedAgent
from worldprobe.analysis._successor_inversion import read_predictions
from worldprobe.worlds import FiniteTables, FiniteWorld

Floats = NDArray[np.float64]


def extraction(examination: Examination) -> list[Measurement]:
    """Invert the Bellman equation of the agent's values where the world is fully observed, and say why not elsewhere."""
    world, cell = examination.world, replace(examination.cell("extraction", "none"), site="q")
    factor = world.factor(world.headline.factor)
    if not isinstance(world, FiniteWorld) or not is_fully_observed(world.tables):
        reason = "values imply a law of states only where states are observed, and the world has finitely many of them"
        return [not_compared(cell, factor, "TV", reason)]
    try:
        model = read_law(examination, examination.agent, world)
    except (ValueError, KeyError) as error:
        return [not_compared(cell, factor, "TV", str(error.args[0]))]
    own = float(np.nanmean(model.total_variation(world.tables)))
    floors = {"uniform law": float(np.nanmean(uniform_law(world.tables).total_variation(world.tables)))}
    if examination.twins.own is not None:
        floors["own init"] = float(np.nanmean(read_law(examination, examination.twins.own, world).total_variation(world.tables)))
    counts = len(examination.stream.episodes), len(examination.stream.groups)
    open_dimensions = "" if model.free_dimensions is None else f", {model.free_dimensions.max()} free dimensions at most"
    law, value = f"{model.source}{open_dimensions}", exact(own)
    rows = [compared(replace(cell, floor=floor, law=law), factor, "TV", value, exact(tv - own), *counts) for floor, tv in floors.items()]
    planned = model.plan(world.tables, world.discount)
    for floor, earned in (("optimum", planned.optimum), ("uniform policy", planned.uniform)):
        here = replace(cell, quantity="extraction-planning", floor=floor, law=law)
        rows.append(compared(here, factor, "return", exact(planned.earned), exact(planned.earned - earned), *counts))
    return rows


def read_law(examination: Examination, agent: Agent | RecordedAgent, world: FiniteWorld) -> ExtractedModel:
    """Return the law that the mean of an agent's values in every state implies, by the optimality operator, or that it predicts."""
    tables = world.tables
    if not isinstance(agent, RecordedAgent) and "one_step" in agent.sites:
        return read_predictions(_one_step(examination, agent, world))
    table = read_q_table(examination, agent, world)
    rewards = tables.reward.numpy()[None]
    if len(table.mean) > 1:
        assert world.reward_functions is not None
        rewards = world.reward_functions.numpy()[: len(table.mean)]
    return invert_bellman(table, rewards, world.discount, terminal=tables.terminal.numpy())


def _one_step(examination: Examination, agent: Agent, world: FiniteWorld) -> Floats:
    """Return the mean one-step prediction in each state (S, A, S) of an agent that makes some; terminal states stay where they are."""
    tables, state = world.tables, np.asarray(examination.stream.recording["state/state"][:])
    predicted = examination.site(agent, "one_step").rows(0).astype(np.float64)
    visits = np.bincount(state, minlength=tables.n_states)
    running = ~tables.terminal.numpy()
    if (visits[running] == 0).any():
        raise ValueError(f"{(visits[running] == 0).sum()} states were never visited, so that nothing is predicted there; record more")
    sums = np.zeros((tables.n_states, predicted.shape[1]))
    np.add.at(sums, state, predicted)
    mean = (sums / np.maximum(visits, 1)[:, None]).reshape(tables.n_states, tables.n_actions, -1)
    look = tables.observation.argmax(1).numpy()
    law: Floats = mean[:, :, look]
    law[~running] = np.eye(tables.n_states)[~running][:, None]
    return law


def read_q_table(examination: Examination, agent: Agent | RecordedAgent, world: FiniteWorld) -> QTable:
    """Average an agent's values over the rows of each state: of its one reward, or of each that it has a head for.

    Raises
    ------
    ValueError
        If a state was never visited.
    """
    state, tables = np.asarray(examination.stream.recording["state/state"][:]), world.tables
    sites = {} if isinstance(agent, RecordedAgent) else agent.sites
    if "value" in sites:
        raise ValueError(f"agent {agent.name!r} is an actor-critic: it has preferences for actions, and no values of them to invert")
    values = examination.site(agent, "heads" if "heads" in sites else "q").rows(0).astype(np.float64)
    heads = values.reshape(len(values), -1, tables.n_actions)
    running = np.flatnonzero(~tables.terminal.numpy())
    place, nothing = np.searchsorted(running, state), np.zeros_like(state)
    each = [QTable.of_rows(q, place, nothing, examination.stream.groups, len(running), 1) for q in np.moveaxis(heads, 1, 0)]
    mean, error = (np.zeros((len(each), tables.n_states, tables.n_actions)) for _ in range(2))
    visits = np.zeros((len(each), tables.n_states), np.int64)
    for number, one in enumerate(each):
        mean[number, running], error[number, running], visits[number, running] = one.mean[0], one.standard_error[0], one.n_visits[0]
    return QTable(mean, error, visits)


def is_fully_observed(tables: FiniteTables) -> bool:
    """Whether every running state has an observation of its own."""
    likelihood = tables.observation[~tables.terminal]
    return bool((likelihood.amax(1) > 1 - 1e-9).all()) and len(set(likelihood.argmax(1).tolist())) == len(likelihood)


def uniform_law(tables: FiniteTables) -> ExtractedModel:
    """Return the law that nobody needs a world for."""
    return ExtractedModel(np.full(tuple(tables.transition.shape), 1 / tables.n_states), "uniform")
