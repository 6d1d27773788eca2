"""Neurons that correlate with dynamics, as rows of the results table: the best unit for every factor and horizon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from worldprobe.analysis._examine import Examination
from worldprobe.analysis._measurement import Measurement, compared, exact
from worldprobe.analysis._unit_information import UnitInformation, unit_information
from worldprobe.probes import Estimate

MAX_ROWS = 20_000
"""Rows, in whole episodes, that units are compared on."""

N_SESSIONS = 99
"""Draws of labels of other episodes: 99 make a rank test at 1 %."""


def neurons(examination: Examination) -> list[Measurement]:
    """Return what the best unit of the headline site tells about each categorical factor k steps later, beside chance and twins."""
    stream, headline = examination.stream, examination.world.headline
    factors = [factor for factor in examination.world.factors if factor.is_categorical]
    rows = whole_episodes(stream.groups, MAX_ROWS, examination.config.seed)
    longest = int(stream.t[rows].max())
    horizons = tuple(k for k in sorted({0, 1, 2, headline.horizon}) if k <= longest)
    if not factors:
        return []
    found = unit_information(
        examination.hidden.rows(0)[rows],
        {factor.name: np.asarray(stream.recording[f"factor/{factor.name}"][:])[rows] for factor in factors},
        stream.t[rows],
        stream.groups[rows],
        horizons,
        [examination.site(twin).rows(0)[rows] for twin in examination.twins.fresh],
        N_SESSIONS,
        examination.config.seed,
    )
    return [row for factor in factors for k in horizons for row in _rows(examination, found, factor.name, k, len(rows))]


def whole_episodes(groups: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Return rows of episodes drawn at random, as many whole ones as `most` rows allow."""
    episodes = np.random.default_rng(seed).permutation(np.unique(groups))
    lengths = np.bincount(groups)[episodes]
    rows: NDArray[np.int64] = np.flatnonzero(np.isin(groups, episodes[np.cumsum(lengths) <= most]))
    return rows


def _rows(examination: Examination, found: UnitInformation, name: str, horizon: int, n_rows: int) -> list[Measurement]:
    """Return the best unit of one cell, beside the best of all by chance and the best of every twin."""
    factor, place = examination.world.factor(name), (found.factors.index(name), found.horizons.index(horizon))
    unit = found.best(name, horizon)
    bits = float(found.bits[unit, *place])
    cell = replace(examination.cell("unit", "best unit by chance"), site=f"{examination.hidden.site}[{unit}]")
    against = {"best unit by chance": (found.null_best[:, *place], float(found.family_wise[unit, *place]))}
    if len(found.twin_best):
        against["best unit of twins"] = found.twin_best[:, *place], float(found.twin_p_values[place])
    value = exact(bits)
    rows = []
    for floor, (others, p_value) in against.items():
        gain = Estimate(bits - float(np.percentile(others, 95)), np.nan, np.nan, p_value, True)
        n_episodes = len(np.unique(examination.stream.groups))
        rows.append(compared(replace(cell, floor=floor), factor, "bits", value, gain, n_episodes, n_rows, horizon))
    return rows
