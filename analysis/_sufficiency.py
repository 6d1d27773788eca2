"""State sufficiency for tests: counterfactual futures read off the present state, and why they are no evidence of dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._decoders import Decoder
from worldprobe.analysis._measurement import Cell, LossSums, Measurement, measure
from worldprobe.analysis._stream import Stream
from worldprobe.worlds import FiniteWorld

Floats = NDArray[np.float64]

PERSISTENCE = "persistence"
"""Predicts of every test that nothing will change."""

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
    what the state carries, never that the agent holds the law. "persistence" predicts of every test that nothing will change.

    Parameters
    ----------
    floor, agent
        Decoders whose labels hold the world's `state_factor`.
    world
        The finite world whose law is executed; it has a `state_factor`.
    horizons
        Test lengths k.
    cell
        Where this is measured.

    Returns
    -------
    One measurement per factor, horizon and predictor (the cell's agent, and `PERSISTENCE`), summed over the tests of that length.
    """
    assert world.state_factor is not None
    states = _States.of(floor, agent, world.state_factor)
    measurements = []
    for horizon in horizons:
        laws = sequence_laws(world, horizon)
        for factor in world.factors:
            classes = np.eye(factor.size)[world.class_maps[factor.name].numpy()]
            tests = _Tests(classes, laws @ classes)
            for predictor, loss in ((cell.agent, tests.loss(states.agent)), (PERSISTENCE, tests.persistence_loss(states))):
                sums = states.sums(tests, loss)
                measurements.append(measure(sums, replace(cell, agent=predictor), factor, horizon))
    return measurements


@dataclass(frozen=True, eq=False)
class _States:
    """The joint state at every scored row, (n_rows, S), and the errors of its predictors."""

    stream: Stream
    true: Floats
    floor: Floats
    agent: Floats
    ceiling: Floats

    @classmethod
    def of(cls, floor: Decoder, agent: Decoder, factor: str) -> _States:
        """Read the columns of the factor that is the state off the decoders."""
        stream = floor.stream
        columns = stream.labels.columns[factor]
        true = stream.targets[stream.scored][:, columns].astype(np.float64)
        assert stream.expected is not None
        belief = stream.expected[stream.scored][:, columns]
        return cls(stream, true, floor.predictions[:, columns] - true, agent.predictions[:, columns] - true, belief - true)

    def sums(self, tests: _Tests, loss: Floats) -> LossSums:
        """Sum the losses of the floor, of a predictor and of the belief over episodes."""
        floor, agent, ceiling = (self.stream.episode_sums(each) for each in (tests.loss(self.floor), loss, tests.loss(self.ceiling)))
        return LossSums(floor, agent, ceiling, float(tests.loss(self.true - self.true.mean(0)).sum()), len(self.true))


@dataclass(frozen=True, eq=False)
class _Tests:
    """All tests of one length and factor: each is a matrix from states to its expected outcome."""

    classes: Floats
    """One-hot class of every state, (S, size): the outcome if nothing changes."""
    outcomes: Floats
    """(n_tests, S, size)"""

    def loss(self, error: Floats) -> Floats:
        """Sum ||e O_i||^2 = e (sum_i O_i O_i') e' over the tests, for every row e of `error`; (n_rows,)."""
        gram = np.einsum("isc,itc->st", self.outcomes, self.outcomes)
        return np.asarray(((error @ gram) * error).sum(1))

    def persistence_loss(self, states: _States) -> Floats:
        """Sum ||p C - s O_i||^2 over the tests, with p the state as the agent's probe has it now; (n_rows,)."""
        now = (states.agent + states.true) @ self.classes
        expected = states.true @ self.outcomes.sum(0)
        return np.asarray(len(self.outcomes) * np.square(now).sum(1) - 2 * (now * expected).sum(1) + self.loss(states.true))


def sequence_laws(world: FiniteWorld, horizon: int) -> NDArray[np.float64]:
    """Return P_{a_1} ... P_{a_k} of every test sequence, (n_tests, S, S)."""
    steps = world.tables.transition.numpy()
    sequences = action_sequences(world.n_actions, horizon)
    laws = steps[sequences[:, 0]]
    for step in range(1, horizon):
        laws = laws @ steps[sequences[:, step]]
    return laws
