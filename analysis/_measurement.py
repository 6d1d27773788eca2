"""One measurement: a score between a floor and a ceiling, with its interval, as one row of the results table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from worldprobe.probes import Estimate, ratio_interval, sum_interval
from worldprobe.worlds import Factor

MINIMUM_ROOM = 0.02
"""Smallest (floor - ceiling) / total variation at which a share is printed: below it the world cannot tell a model from its floor."""


Unit = Literal["R2", "bits", "AUC", "decisions", "return", "TV"]
"""Quadratic losses over the total variation, log-losses per label, areas under a curve, shares of decisions, discounted returns, or
total variations."""

UNITS: dict[Unit, str] = {
    "R2": "R²",
    "bits": "bits per label",
    "AUC": "AUC",
    "decisions": "of decisions",
    "return": "of discounted return",
    "TV": "of total variation",
}


@dataclass(frozen=True)
class Cell:
    """Where a measurement was made."""

    quantity: str
    """emergence, replacement, own-update, own-update-refit, sufficiency, ..."""
    agent: str
    stream: str
    site: str
    floor: str
    law: str = "true"
    step: int = -1
    """Training step of the checkpoint; -1 where it is the one the run is about."""
    seed: int = 0


@dataclass(frozen=True)
class Share:
    """(L_floor - L_agent) / (L_floor - L_ceiling): 0 is nothing beyond the floor, 1 everything that can be known."""

    estimate: float
    lower: float
    upper: float
    """95 % interval over the episodes of this one network (Fieller)."""
    estimable: bool
    reason: str = ""

    @classmethod
    def none(cls, reason: str) -> Share:
        """Return the share that cannot be printed, and why."""
        return cls(np.nan, np.nan, np.nan, estimable=False, reason=reason)


@dataclass(frozen=True)
class LossSums:
    """Losses summed over each episode, (n_episodes,), of a floor, an agent and (where known) the Bayes ceiling."""

    floor: NDArray[np.float64]
    agent: NDArray[np.float64]
    ceiling: NDArray[np.float64] | None
    total: float
    """What losses are divided by: the total variation of the labels over the same rows ("R2"), or the number of labels ("bits")."""
    n_rows: int
    unit: Unit = "R2"

    def levels(self, unit: Unit) -> tuple[float, float, float]:
        """R^2, or bits per label, of floor, agent and ceiling; NaN where it is missing, or the losses are in the other unit."""
        is_known, losses = self.unit == unit and self.total > 0, (self.floor, self.agent, self.ceiling)
        means = [float(each.sum() / self.total) if is_known and each is not None else np.nan for each in losses]
        floor, agent, ceiling = (1 - mean for mean in means) if unit == "R2" else means
        return floor, agent, ceiling


@dataclass(frozen=True)
class Measurement:
    """One row of results.csv: a cell, a factor, a horizon, and how much of the room the agent fills there.

    `gain` is the numerator of the share over `LossSums.total`, in points of R^2 or bits per label: it stands where the share is not
    estimable.
    """

    cell: Cell
    factor: str
    relevance: str
    horizon: int
    share: Share
    unit: Unit
    gain: float
    gain_lower: float
    gain_upper: float
    p_value: float
    """Of no gain, two-sided, over episodes."""
    r2_floor: float
    r2_agent: float
    r2_ceiling: float
    bits_floor: float
    """Held-out bits per label; NaN where the score is R^2, as R^2 is where it is bits."""
    bits_agent: float
    bits_ceiling: float
    n_episodes: int
    n_rows: int

    def row(self) -> dict[str, object]:
        """Return the measurement as one flat row."""
        own = {name: value for name, value in vars(self).items() if name not in ("cell", "share")}
        return asdict(self.cell) | asdict(self.share) | own


def measure(sums: LossSums, cell: Cell, factor: Factor, horizon: int, *, level: float = 0.95) -> Measurement:
    """Return the share of the room between floor and ceiling that the agent fills, with its Fieller interval over episodes.

    The share is not estimable where the room is under `MINIMUM_ROOM` of the total variation, where the Fieller set is unbounded,
    or where there is no ceiling; the gain in R^2 points stands in every case.
    """
    gain, total = sum_interval(sums.floor - sums.agent, level=level), sums.total if sums.total > 0 else np.nan
    (r2_floor, r2_agent, r2_ceiling), (bits_floor, bits_agent, bits_ceiling) = sums.levels("R2"), sums.levels("bits")
    return Measurement(
        cell=cell,
        factor=factor.name,
        relevance=factor.relevance,
        horizon=horizon,
        share=share(sums, level),
        unit=sums.unit,
        gain=gain.estimate / total,
        gain_lower=gain.lower / total,
        gain_upper=gain.upper / total,
        p_value=gain.p_value,
        r2_floor=r2_floor,
        r2_agent=r2_agent,
        r2_ceiling=r2_ceiling,
        bits_floor=bits_floor,
        bits_agent=bits_agent,
        bits_ceiling=bits_ceiling,
        n_episodes=len(sums.floor),
        n_rows=sums.n_rows,
    )


def exact(value: float) -> Estimate:
    """Return a value without an interval, that is no test of anything."""
    return Estimate(value, np.nan, np.nan, np.nan, True)


def compared(
    cell: Cell, factor: Factor, unit: Unit, value: Estimate, gain: Estimate, n_episodes: int, n_rows: int, horizon: int = 0
) -> Measurement:
    """Return a value that is no ratio of losses (an area, a share of decisions, a return), and what it gains over the cell's floor."""
    whole = Share(value.estimate, value.lower, value.upper, value.estimable, value.reason or "")
    return _without_losses(cell, factor, unit, whole, gain, n_episodes, n_rows, horizon)


def not_compared(cell: Cell, factor: Factor, unit: Unit, reason: str) -> Measurement:
    """Return the row that says why there is no such value."""
    return _without_losses(cell, factor, unit, Share.none(reason), Estimate(np.nan, np.nan, np.nan, np.nan, False), 0, 0, 0)


def _without_losses(
    cell: Cell, factor: Factor, unit: Unit, share: Share, gain: Estimate, n_episodes: int, n_rows: int, horizon: int
) -> Measurement:
    missing = dict.fromkeys(("r2_floor", "r2_agent", "r2_ceiling", "bits_floor", "bits_agent", "bits_ceiling"), np.nan)
    return Measurement(
        cell=cell,
        factor=factor.name,
        relevance=factor.relevance,
        horizon=horizon,
        share=share,
        unit=unit,
        gain=gain.estimate,
        gain_lower=gain.lower,
        gain_upper=gain.upper,
        p_value=gain.p_value,
        n_episodes=n_episodes,
        n_rows=n_rows,
        **missing,
    )


def share(sums: LossSums, level: float = 0.95) -> Share:
    """Return the ratio with its interval, or the reason why there is none."""
    if sums.total <= 0:
        return Share.none("the factor never varies here")
    if sums.ceiling is None:
        return Share.none("no exact belief in this world, hence no ceiling")
    room = float(sums.floor.sum() - sums.ceiling.sum()) / sums.total
    if room < MINIMUM_ROOM:
        return Share.none(
            f"floor and ceiling are {max(room, 0):.3f} {UNITS[sums.unit]} apart: this world cannot tell a model from this floor here"
        )
    ratio = ratio_interval(sums.floor - sums.agent, sums.floor - sums.ceiling, level=level)
    if not ratio.estimable:
        return Share.none(ratio.reason or "unbounded interval")
    return Share(ratio.estimate, ratio.lower, ratio.upper, estimable=True)
