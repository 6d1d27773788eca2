"""State sufficiency for tests: counterfactual futures read off the present state, and why they are no evidence of dynamics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._decoders import Decoder
from worldprobe.analysis._measurement import Cell, LossSums, Measurement, measure
from worldprobe.worlds import FiniteWorld

MAX_TESTS = 32
"""Action sequences per horizon; all of them where there are no more."""


def action_sequences(n_actions: int, horizon: int) -> NDArray[np.int64]:
    """Return the action sequences executed at a horizon: every one, or `MAX_TESTS` drawn once per world; (n_tests, horizon).

    Examples
    --------
    >>> action_sequences(2, 2).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> action_sequences(4, 5).shape
    (32, 5)
    """
    if n_actions**horizon <= MAX_TESTS:
        return np.stack(np.meshgrid(*[np.arange(n_actions)] * horizon, indexing="ij"), -1).reshape(-1, horizon)
    return np.random.default_rng(0).integers(0, n_actions, (MAX_TESTS, horizon))


def sufficiency(floor: Decoder, agent: Decoder, world: FiniteWorld, horizons: Sequence[int], cell: Cell) -> list[Measurement]:
    r"""Measure the share of every test's expected outcome that is linear in the hidden state.

    The label of a test (a_1 .. a_k) at a row is E[factor(s_{t+k}) | s_t, a_1 .. a_k]. Ridge is linear in its labels, so the
    probe of a test is *identically* the probe of the state followed by the law: its error is the state probe's error pushed
    through P_{a_1} ... P_{a_k}. No probe is fitted here, and under any counterfeit law the value is as high: sufficiency says
    what the state carries, never that the agent holds the law.

    Parameters
    ----------
    floor, agent
        Decoders whose labels hold the joint factor "state".
    world
        The finite world whose law is executed.
    horizons
        Test lengths k.
    cell
        Where this is measured.

    Returns
    -------
    One measurement per factor and horizon, summed over the tests of that length.
    """
    stream = floor.stream
    columns = stream.labels.columns["state"]
    states = stream.targets[stream.scored][:, columns].astype(np.float64)
    assert stream.expected is not None
    errors = {
        "floor": floor.predictions[:, columns] - states,
        "agent": agent.predictions[:, columns] - states,
        "ceiling": stream.expected[stream.scored][:, columns] - states,
        "total": states - states.mean(0),
    }
    measurements = []
    for horizon in horizons:
        laws = sequence_laws(world, horizon)
        for factor in world.factors:
            outcomes = laws @ np.eye(factor.size)[world.class_maps[factor.name].numpy()]
            losses = {name: sum(np.square(error @ outcome).sum(1) for outcome in outcomes) for name, error in errors.items()}
            per_episode = {name: stream.episode_sums(np.asarray(loss)) for name, loss in losses.items()}
            sums = LossSums(
                per_episode["floor"], per_episode["agent"], per_episode["ceiling"], float(per_episode["total"].sum()), len(states)
            )
            measurements.append(measure(sums, cell, factor, horizon))
    return measurements


def sequence_laws(world: FiniteWorld, horizon: int) -> NDArray[np.float64]:
    """Return P_{a_1} ... P_{a_k} of every test sequence, (n_tests, S, S)."""
    steps = world.tables.transition.numpy()
    sequences = action_sequences(world.n_actions, horizon)
    laws = steps[sequences[:, 0]]
    for step in range(1, horizon):
        laws = laws @ steps[sequences[:, step]]
    return laws
