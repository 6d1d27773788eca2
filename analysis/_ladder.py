"""The ladder: which claims about a model inside the agent hold, decided in one pre-registered cell from saved results alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from worldprobe.analysis._networks import MIN_NETWORKS
from worldprobe.analysis._tables import with_false_discovery_rate
from worldprobe.probes import FLOOR_FORMS
from worldprobe.worlds import Headline

Verdict = Literal["pass", "fail", "not tested"]

MIN_LAWS = 19
"""Counterfeit laws that a 95th percentile is read off."""

MIN_TWINS = 19
"""Exchangeable twins that make being below all of them a rank test at 5 %."""

FROZEN_SHARE = 0.8
"""Of what a decoder that is fitted again on forks finds there, the share that the frozen one must find."""

INTERVENE = "`worldprobe probe --lens intervene`"
"""How rungs 7 and 8 are tested."""


@dataclass(frozen=True)
class Rung:
    """One claim and its verdict."""

    number: str
    claim: str
    verdict: Verdict
    evidence: str
    """The statistic that decided it, in words; or why it was not tested."""


def climb(table: pd.DataFrame, headline: Headline, factor: str | None = None) -> list[Rung]:
    """Return the verdict of every rung from the results table.

    The ladder is a graph, 1 -> 2a -> 2b, 2a -> 3 and 2a -> 4 -> 6, 2a -> 7 -> 8: a rung whose predecessor does not pass is not
    decided on its own merits but fails with it, or stays untested with it.

    Parameters
    ----------
    table
        Rows as `Measurement.row` gives them.
    headline
        The pre-registered cell.
    factor
        Another factor, whose ladder is explored and not pre-registered: its gains must hold after adjustment for all explored cells.
    """
    adjusted = with_false_discovery_rate(table, headline)
    here = adjusted[(adjusted.factor == (factor or headline.factor)) & (adjusted.step == -1)]
    one, memory = _beyond(here, "F0", "1", "beyond the input"), _beyond(here, "F1", "1b", "beyond memory")
    training = _after(one, _training(here))
    reward = _after(training, _reward(here))
    probe = _after(training, _representation(here))
    update = _after(training, _update(here, headline))
    coherent = _after(update, _coherent(adjusted, here, headline))
    used = _after(training, _used(here))
    necessary = _after(used, _necessary(here))
    return [one, memory, training, reward, probe, update, coherent, used, necessary]


def _after(before: Rung, rung: Rung) -> Rung:
    """A rung stands only on the one before it."""
    if before.verdict == "pass" or rung.verdict == "not tested":
        return rung
    verdict: Verdict = "fail" if before.verdict == "fail" else "not tested"
    return Rung(
        rung.number, rung.claim, verdict, f"rung {before.number} is a {before.verdict}; on its own: {rung.verdict} ({rung.evidence})"
    )


def _all(number: str, claim: str, passed: bool, evidence: str) -> Rung:
    return Rung(number, claim, "pass" if passed else "fail", evidence)


def _hold(rows: pd.DataFrame) -> bool:
    """Whether every gain is positive at 5 %, two-sided; for the headline factor that is a 95 % lower bound above zero."""
    return bool(((rows.gain > 0) & (rows.q_value < 0.05)).all())


def _beyond(here: pd.DataFrame, floor: str, number: str, claim: str) -> Rung:
    """L_F - L_{F+h} > 0 against every form of a floor, on both streams."""
    rows = here[(here.quantity == "emergence") & here.floor.str.startswith(f"{floor} ")]
    if rows.stream.nunique() < 2 or not {f"{floor} {form}" for form in FLOOR_FORMS} <= set(rows.floor):
        return Rung(
            number, claim, "not tested", f"needs {', '.join(FLOOR_FORMS)} forms of {floor} on the agent's own stream and the common one"
        )
    worst = rows.iloc[int(rows.gain_lower.argmin())]
    least = f"{worst.gain:+.3f} R² (95 % from {worst.gain_lower:+.3f}), {worst.floor}, {worst.stream} stream"
    return _all(number, claim, _hold(rows), f"smallest gain over {len(rows)} floors: {least}")


def _training(here: pd.DataFrame) -> Rung:
    """Loss below the own initialisation, every fresh one and every weight-noise twin, on both streams."""
    claim, rows = "due to training", here[here.quantity == "training"]
    own, others = rows[rows.floor == "own init"], rows[rows.floor.str.startswith(("fresh", "noise"))]
    reservoirs = rows[rows.floor.str.startswith("echo")]
    if own.empty or others.floor.nunique() < MIN_TWINS or own.stream.nunique() < 2:
        return Rung("2a", claim, "not tested", f"needs the untrained twin and at least {MIN_TWINS} others, on both streams")
    worst = others.iloc[int(others.gain.argmin())]
    evidence = (
        f"below its initialisation by {own.gain.min():+.3f} R² (95 % from {own.gain_lower.min():+.3f}); "
        f"below the best of {others.floor.nunique()} twins by {worst.gain:+.3f} ({worst.floor}, {worst.stream} stream)"
    )
    if len(reservoirs):
        best = reservoirs.iloc[int(reservoirs.gain.argmin())]
        evidence += f"; beside the best echo-state reservoir: {best.gain:+.3f} ({best.floor}, {best.stream} stream; no part of the verdict)"
    return _all("2a", claim, _hold(own) and bool((others.gain > 0).all()), evidence)


def _reward(here: pd.DataFrame) -> Rung:
    """Loss below every network trained on yoked rewards, and lower on average over networks."""
    claim, rows = "due to reward", here[here.quantity == "network"]
    own, yoked = (rows[rows.agent.str.startswith(kind)].r2_agent.to_numpy(float) for kind in ("trained", "yoked"))
    if min(len(own), len(yoked)) < MIN_NETWORKS:
        return Rung(
            "2b", claim, "not tested", f"needs {MIN_NETWORKS} networks and {MIN_NETWORKS} on yoked rewards; has {len(own)} and {len(yoked)}"
        )
    p = float(stats.ttest_ind(own, yoked, equal_var=False, alternative="greater").pvalue)
    spread = [f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})" for values in (own, yoked)]
    evidence = f"R² {spread[0]} against yoked {spread[1]}, p = {p:.3g}"
    return _all("2b", claim, bool(own.min() > yoked.max() and p < 0.05), evidence)


def _representation(here: pd.DataFrame) -> Rung:
    """Online codelength of the factor from h below that from F1, and below that of control labels."""
    claim, rows = "the representation, not the probe", here[here.quantity == "codelength"]
    if rows.empty:
        return Rung("3", claim, "not tested", "needs online codelengths of a categorical headline factor (`--full`)")
    if "control" not in set(rows.floor):
        return Rung("3", claim, "not tested", "no window of the past has enough history types for a control task that cannot be memorised")
    evidence = "; ".join(
        f"bits saved per label against {row.floor}: {row.gain:+.3f} (95 % from {row.gain_lower:+.3f})" for row in rows.itertuples()
    )
    return _all("3", claim, _hold(rows), evidence)


def _update(here: pd.DataFrame, headline: Headline) -> Rung:
    """E_model > 0 at one step and at k*, against every floor without memory, and above the counterfeit laws."""
    claim = "an update, not a lookup"
    rows = here[
        (here.quantity == "own-update")
        & (here.law == "true")
        & here.horizon.isin([1, headline.horizon])
        & (here.stream == headline.streams)
    ]
    rows = rows[rows.floor.str.startswith("F0 ") | (rows.floor == "own init")]
    if rows.empty:
        return Rung("4", claim, "not tested", "this world has no exact filter to step beside the core")
    if not rows.estimable.all():
        return Rung("4", claim, "not tested", str(rows[~rows.estimable].iloc[0].reason))
    worst = rows.iloc[int(rows.lower.argmin())]
    counterfeits = here[(here.quantity == "own-update") & (here.law != "true")]
    if counterfeits.law.nunique() < MIN_LAWS:
        return Rung("4", claim, "not tested", f"needs {MIN_LAWS} counterfeit laws; has {counterfeits.law.nunique()}")
    above = [_above_counterfeits(rows, counterfeits, step) for step in sorted({1, headline.horizon})]
    evidence = f"smallest E_model {worst.estimate:.2f} (95 % from {worst.lower:.2f}), {worst.floor}, k = {worst.horizon}; " + "; ".join(
        f"k = {step}: at least {least:.2f}, beside a 95th percentile of {bar:.2f} under counterfeit laws" for step, least, bar in above
    )
    return _all("4", claim, _hold(rows) and all(least > bar for _, least, bar in above), evidence)


def _above_counterfeits(rows: pd.DataFrame, counterfeits: pd.DataFrame, step: int) -> tuple[int, float, float]:
    """The lower bound of the true law's share at a step, and the 95th percentile of the same score under counterfeit laws."""
    there = counterfeits[counterfeits.horizon == step]
    floors = rows[(rows.horizon == step) & rows.floor.isin(there.floor)]
    return step, float(floors.lower.min()), float(np.nanpercentile(there.estimate, 95)) if len(there) else np.nan


def _coherent(adjusted: pd.DataFrame, here: pd.DataFrame, headline: Headline) -> Rung:
    """Equal histories are closer in Q than different ones, more so than before training; and the frozen decoder goes on to fit."""
    claim, rows = "coherent", adjusted[(adjusted.quantity == "coherence") & (adjusted.step == -1)]
    if rows.empty:
        return Rung("6", claim, "not tested", "histories of equal belief were not compared (`worldprobe probe --lens decode`)")
    if not rows.estimable.all():
        return Rung("6", claim, "not tested", str(rows[~rows.estimable].iloc[0].reason))
    rows, at_end = rows[rows.site == "q"], here[(here.horizon == headline.horizon) & (here.floor == "F0 linear") & (here.law == "true")]
    frozen, refit = (at_end[at_end.quantity == quantity] for quantity in ("own-update", "own-update-refit"))
    if not {"chance", "own init"} <= set(rows.floor) or rows.stream.nunique() < 2:
        return Rung("6", claim, "not tested", "needs both streams, and the untrained twin")
    if frozen.empty or refit.empty or not (frozen.estimable.all() and refit.estimable.all()):
        return Rung("6", claim, "not tested", "no share of the own update to compare a frozen decoder with one that is fitted again")
    worst, again = rows.iloc[int(rows.gain_lower.argmin())], float(refit.estimate.iloc[0])
    kept = float(frozen.estimate.iloc[0]) / again if again > 0 else 0.0
    evidence = (
        f"AUC of Q {worst.estimate:.3f}, {worst.gain:+.3f} over {worst.floor} (95 % from {worst.gain_lower:+.3f}, {worst.stream} stream); "
        f"the frozen decoder keeps {kept:.2f} of what one that is fitted again finds (at least {FROZEN_SHARE} is asked)"
    )
    return _all("6", claim, _hold(rows) and kept >= FROZEN_SHARE, evidence)


def _used(here: pd.DataFrame) -> Rung:
    """Steering succeeds more often than every control, on both streams."""
    claim, rows = "used", here[here.quantity == "steering"]
    if rows.empty:
        return Rung("7", claim, "not tested", f"no agent was steered ({INTERVENE})")
    if not rows.estimable.all():
        return Rung("7", claim, "not tested", str(rows[~rows.estimable].iloc[0].reason))
    if rows.stream.nunique() < 2:
        return Rung("7", claim, "not tested", "needs steering on the agent's own stream and on the common one")
    worst = rows.iloc[int(rows.gain_lower.argmin())]
    evidence = (
        f"steering succeeds in {100 * worst.estimate:.0f} % of decisions, {100 * worst.gain:+.0f} points over {worst.floor} "
        f"(95 % from {100 * worst.gain_lower:+.0f}, {worst.stream} stream)"
    )
    return _all("7", claim, _hold(rows), evidence)


def _necessary(here: pd.DataFrame) -> Rung:
    """The full erasure costs more than its controls, and no larger dose costs less than a smaller one."""
    claim, rows = "necessary", here[here.quantity == "necessity"]
    if rows.empty:
        return Rung("8", claim, "not tested", f"nothing was erased ({INTERVENE})")
    tested = rows[rows.estimable]
    if tested.empty:
        return Rung("8", claim, "not tested", "; ".join(rows.reason))
    worst, doses = tested.iloc[int(tested.gain_lower.argmin())], here[(here.quantity == "dose") & (here.floor == "erased")]
    monotone = _rises(doses.sort_values("horizon"))
    evidence = (
        f"the full erasure costs {worst.estimate:.2f} of discounted return, {worst.gain:+.2f} more than {worst.floor} "
        f"(95 % from {worst.gain_lower:+.2f}); doses {'rise' if monotone else 'do not rise'}"
    )
    return _all("8", claim, _hold(tested) and monotone, evidence)


def _rises(doses: pd.DataFrame) -> bool:
    """Whether no larger dose costs less than a smaller one by more than two standard errors."""
    error = (doses.gain_upper - doses.gain_lower).to_numpy(float) / (2 * stats.norm.ppf(0.975))
    steps, noise = np.diff(doses.gain.to_numpy(float)), np.hypot(error[1:], error[:-1])
    return bool(np.all(steps >= -2 * noise))
