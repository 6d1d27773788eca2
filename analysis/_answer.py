"""The answer of a run in one sentence."""

from __future__ import annotations

from typing import Any

import pandas as pd

from worldprobe.analysis._findings import Findings
from worldprobe.analysis._report_tables import percent
from worldprobe.worlds import Headline

AMOUNTS = ((0.8, "a model was found"), (0.2, "part of a model was found"), (-1.0, "a trace of a model was found"))
"""Least share of what the filter knows, and what it is called."""


def answer(findings: Findings) -> str:
    """Return the run's answer: what was found of the headline factor, beside the untrained twin, and which rungs hold."""
    headline, summary = findings.headline, findings.summary
    held = [rung.number for rung in findings.ladder if rung.verdict == "pass"]
    climbed = f"Rungs that hold: {', '.join(held)}." if held else "No rung of the ladder holds."
    verdict = {rung.number: rung.verdict for rung in findings.ladder}["4"]
    update = _cell(findings.table, "own-update", headline.factor, headline.horizon, headline.streams)
    found = {"pass": "", "fail": "no model was found", "not tested": "whether there is a model could not be tested"}[verdict]
    who = f"In this {summary['agent']}, trained on reward alone in {summary['world']}, {found or _amount(update.estimate)}"
    return f"{who}: {_told(findings.table, headline)}. {climbed}"


def _amount(share: float) -> str:
    """How much of a model an update that passes rung 4 is, in words."""
    return next(words for least, words in AMOUNTS if share >= least)


def _told(table: pd.DataFrame, headline: Headline) -> str:
    """The headline cell in words."""
    update = _cell(table, "own-update", headline.factor, headline.horizon, headline.streams)
    state = _cell(table, "emergence", headline.factor, 0, headline.streams)
    if update is not None and update.estimable:
        twin = _cell(table, "own-update", headline.factor, headline.horizon, headline.streams, "own init")
        return (
            f"after {headline.horizon} actions it would not have chosen, its own update holds {percent(update)} of what the exact Bayes "
            f"filter knows of the {headline.factor} beyond the present input" + _beside(update, twin)
        )
    if update is not None:
        return f"its update was stepped beside the exact filter, but {update.reason}"
    if state is None:
        return "nothing was measured"
    if state.estimable:
        return f"its hidden state holds {percent(state)} of what can be known of the {headline.factor} beyond the present input"
    return (
        f"its hidden state adds {state.gain:+.2f} R² [{state.gain_lower:+.2f}, {state.gain_upper:+.2f}] about the {headline.factor} to the "
        f"present input, but no share can be given ({state.reason})"
    )


def _beside(update: Any, twin: Any) -> str:
    """The untrained twin's share of the same room."""
    if twin is None:
        return ""
    share = (twin.r2_floor - update.r2_floor) / (update.r2_ceiling - update.r2_floor)
    return f", its untrained twin {100 * share:.0f} %"


def _cell(table: pd.DataFrame, quantity: str, factor: str, horizon: int, stream: str, floor: str = "F0 best") -> Any:
    rows = table[
        (table.quantity == quantity)
        & (table.factor == factor)
        & (table.horizon == horizon)
        & (table.stream == stream)
        & (table.floor == floor)
        & (table.law == "true")
        & (table.step == -1)
    ]
    return rows.iloc[0] if len(rows) else None
