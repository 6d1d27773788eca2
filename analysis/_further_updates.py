"""The own update, further: closed loops, simulation of the filter, and gradients, as rows of the results table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worldprobe.analysis._closed_loop import closed_loop
from worldprobe.analysis._examine import Examination
from worldprobe.analysis._gradients import measure_gradients
from worldprobe.analysis._measurement import Measurement, compared
from worldprobe.analysis._simulation import simulation_similarity
from worldprobe.probes import Estimate
from worldprobe.worlds import Unavailable


def further_updates(examination: Examination) -> list[Measurement]:
    """Return what of `closed_loop`, `simulation_similarity` and `measure_gradients` the world supports."""
    measured = [*closed_loop(examination, "decoded"), *closed_loop(examination, "withheld")]
    for rows in (_simulations, _gradients):
        try:
            measured += rows(examination)
        except Unavailable:
            continue
    return measured


def _simulations(examination: Examination) -> list[Measurement]:
    """Shares of the way that mapping and updating commute, of the agent and of its initialisation."""
    factor = examination.world.factor(examination.world.headline.factor)
    twin = [] if examination.twins.own is None else [replace(examination, agent=examination.twins.own)]
    rows = list[Measurement]()
    for one, name in zip([examination, *twin], (examination.agent.name, "own init"), strict=False):
        cell = replace(examination.cell("simulation", "stays as it is"), agent=name)
        for found in simulation_similarity(one):
            gain = replace(found.share, p_value=np.nan)
            rows.append(compared(cell, factor, "TV", found.share, gain, len(one.stream.episodes), len(one.stream.groups), found.horizon))
    return rows


def _gradients(examination: Examination) -> list[Measurement]:
    """Cosines and relative errors of responses."""
    factor = examination.world.factor(examination.world.headline.factor)
    rows = list[Measurement]()
    for found in measure_gradients(examination, horizon=examination.horizon):
        for score, value in (
            ("cosine", found.cosine),
            ("relative error", found.relative_error),
            ("prediction error", found.prediction_error),
        ):
            cell = replace(examination.cell(f"gradient by {found.to}", score), agent=found.who)
            none = Estimate(value.estimate, np.nan, np.nan, np.nan, value.estimable)
            rows.append(compared(cell, factor, "R2", value, none, len(examination.stream.episodes), found.n_forks, found.horizon))
    return rows
