"""Transition probes on the agent's own stream: taken futures beside what the policy leaks, direct beside composed, as table rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.analysis._examine import Examination
from worldprobe.analysis._measurement import LossSums, Measurement, measure
from worldprobe.analysis._recorded_agent import RecordedAgent
from worldprobe.analysis._stream import VALIDATION
from worldprobe.probes import TransitionForm, TransitionProbe
from worldprobe.worlds import FiniteWorld

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MIN_TAKEN = 100
"""Rows of an action in every training set below which there is no head for it, and its rows are left out."""


def transitions(examination: Examination, rank: int = 8) -> list[Measurement]:
    r"""Decode the state that followed the action that was taken, in every form of `TransitionProbe`.

    A taken future is known to whoever knows the policy: its floor is the same probe on the input, and on the input with Q-values and
    the greedy action ("policy leakage"). *Composed* is the decoder of the present state, followed by the world's own law: where it does
    as well as the direct probe, the probe has shown the present and nothing else. The ceiling is the exact belief, pushed through
    the action.

    Parameters
    ----------
    examination : Examination
        On the agent's own stream.
    rank : int
        Directions of the low-rank form.

    Returns
    -------
    list of Measurement
        Quantity "transition", one per form (and "composed"), floor and factor.
    """
    stream = examination.stream
    rows, taken = _followed(examination)
    if not len(rows):
        return []
    hidden, given = examination.hidden.rows(0), stream.received
    floors = {"input": given}
    if not isinstance(examination.agent, RecordedAgent):
        q = examination.site(examination.agent, "q").rows(0)
        floors["policy leakage"] = np.concatenate([given, q, np.eye(q.shape[1], dtype=np.float32)[q.argmax(axis=1)]], axis=1)
    forms: dict[TransitionForm, int | None] = {"additive": None, "per-action": None, "low-rank": min(rank, hidden.shape[1])}
    ceiling = _pushed(examination, rows)
    measured = list[Measurement]()
    for floor, features in floors.items():
        without = _losses(examination, features, rows, taken, TransitionProbe("per-action"))
        both = np.concatenate([features, hidden], axis=1)
        for form, directions in forms.items():
            found = _losses(examination, both, rows, taken, TransitionProbe(form, directions))
            measured += _measured(examination, f"{form}, beside {floor}", without, found, ceiling, rows)
        composed = _composed(examination, rows)
        if composed is not None:
            measured += _measured(examination, f"composed, beside {floor}", without, composed, ceiling, rows)
    return measured


def _followed(examination: Examination) -> tuple[Integers, Integers]:
    """Return scored rows after which the episode goes on, and the actions taken there, of actions that were taken often enough."""
    stream = examination.stream
    goes_on = np.flatnonzero(stream.groups[:-1] == stream.groups[1:])
    rows = goes_on[stream.folds[goes_on] != VALIDATION]
    taken = np.asarray(stream.recording["action"][:])[rows].astype(np.int64)
    counts = np.bincount(taken, minlength=examination.world.n_actions)
    return (rows, taken) if (counts[np.unique(taken)] >= MIN_TAKEN).all() else _often(rows, taken, counts)


def _often(rows: Integers, taken: Integers, counts: Integers) -> tuple[Integers, Integers]:
    kept = counts[taken] >= MIN_TAKEN
    return rows[kept], np.unique(taken[kept], return_inverse=True)[1].astype(np.int64)


def _losses(examination: Examination, features: NDArray[np.float32], rows: Integers, taken: Integers, probe: TransitionProbe) -> Floats:
    """Cross-fitted squared error of each row and column of what followed, (n, width)."""
    stream, targets = examination.stream, examination.stream.targets
    folds, wrong = stream.folds[rows], np.empty((len(rows), stream.labels.width))
    for fold in range(stream.n_folds):
        fit, score = folds != fold, folds == fold
        fitted = TransitionProbe(probe.form, probe.rank, random_state=stream.seed).fit(
            features[rows[fit]], taken[fit], targets[rows[fit] + 1], groups=stream.groups[rows[fit]]
        )
        wrong[score] = targets[rows[score] + 1] - fitted.predict(features[rows[score]], taken[score])
    return np.square(wrong)


def _pushed(examination: Examination, rows: Integers) -> Floats | None:
    """Squared error of the exact belief pushed through the action that was taken, given that the episode went on."""
    stream, world = examination.stream, examination.world
    if "belief" not in world.gives or "tables" not in world.gives or "belief/state" not in stream.recording:
        return None
    belief = {"state": torch.from_numpy(np.asarray(stream.recording["belief/state"][:][rows], np.float64))}
    expected = _after(examination, belief, rows)
    return np.square(stream.targets[rows + 1] - expected)


def _after(examination: Examination, belief: dict[str, torch.Tensor], rows: Integers) -> Floats:
    """Return the labels that are expected after the recorded action, given that the episode goes on."""
    stream, world = examination.stream, examination.world
    action = torch.from_numpy(np.asarray(stream.recording["action"][:])[rows])
    blind = world.belief_filter(frozenset({"action"}))
    nothing = torch.zeros(len(rows), *world.observation_shape)
    ended, generator = torch.zeros(len(rows), dtype=torch.bool), torch.Generator()
    moved = blind.update(belief, action, torch.zeros(len(rows)), nothing, ended, generator)
    return stream.labels.encode_expected({name: each.numpy() for name, each in world.expect_factors(moved).items()}).astype(np.float64)


def _composed(examination: Examination, rows: Integers) -> Floats | None:
    """Squared error of the state decoder followed by the law; None unless a factor is the whole state."""
    stream, world = examination.stream, examination.world
    if not isinstance(world, FiniteWorld) or world.state_factor is None:
        return None
    place = np.searchsorted(stream.scored, rows)
    decoded = np.maximum(examination.decoder.predictions[place][:, stream.labels.columns[world.state_factor]], 1e-6)
    running = ~world.tables.terminal.numpy()
    belief = decoded * running / (decoded * running).sum(axis=1, keepdims=True)
    expected = _after(examination, {"state": torch.from_numpy(belief)}, rows)
    return np.square(stream.targets[rows + 1] - expected)


def _measured(
    examination: Examination, words: str, without: Floats, found: Floats, ceiling: Floats | None, rows: Integers
) -> list[Measurement]:
    """Sum losses over episodes and factors."""
    stream, measured = examination.stream, list[Measurement]()
    for factor in stream.labels.factors:
        columns = stream.labels.columns[factor.name]

        def sums(losses: Floats, columns: slice = columns) -> Floats:
            return stream.episode_sums(losses[:, columns].sum(axis=1), rows)

        labels = stream.targets[rows + 1][:, columns].astype(np.float64)
        total = float(np.square(labels - labels.mean(0)).sum())
        bound = None if ceiling is None else sums(ceiling)
        losses = LossSums(sums(without), sums(found), bound, total, len(rows))
        measured.append(measure(losses, replace(examination.cell("transition", words)), factor, horizon=1))
    return measured
