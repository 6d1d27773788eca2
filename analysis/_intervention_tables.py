"""Tables of coherence, single units, extraction and interventions, in words and with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd


def make_intervention_tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables by name; one without rows was not measured."""
    return {
        "coherence": _coherence(table[table.quantity == "coherence"]),
        "further": _further(table),
        "memory": _memory(table[table.quantity.isin(MEMORY)]),
        "units": _units(table[table.quantity == "unit"]),
        "extraction": _extraction(table),
        "steering": _steering(table),
        "necessity": _necessity(table),
    }


def _records(rows: pd.DataFrame) -> Iterator[Any]:
    yield from rows.itertuples()


def _interval(row: Any, digits: int = 3) -> str:
    """A gain with its interval."""
    return f"{row.gain:+.{digits}f} [{row.gain_lower:+.{digits}f}, {row.gain_upper:+.{digits}f}]"


def _coherence(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "stream": row.stream,
            "site": row.site,
            "AUC": f"{row.estimate:.3f}" if row.estimable else f"not estimable: {row.reason}",
            "beside": row.floor,
            "gain [95 %]": _interval(row) if row.estimable else "none",
        }
        for row in _records(rows)
    )


FURTHER = {
    "own-update-decoded": "closed loop: it sees what it reads itself, share of the belief pushed blind",
    "own-update-withheld": "closed loop: it sees zeros, share of the belief pushed blind",
    "simulation": "map to the filter and update commute, share",
    "gradient by action": "response of the forked update to the action",
    "gradient by state": "response of the forked update to the state",
}
"""Quantities, and what they are called."""


def _further(table: pd.DataFrame) -> pd.DataFrame:
    """The headline factor after one step and at the end."""
    rows = table[table.quantity.isin(FURTHER) & (table.step == -1)]
    if rows.empty:
        return rows
    measured = rows[rows.horizon.isin([1, rows.horizon.max()])]
    return pd.DataFrame(
        {
            "what": FURTHER[row.quantity],
            "who": row.agent,
            "factor": row.factor if row.quantity.startswith("own") else "all",
            "steps": row.horizon,
            "score": row.floor,
            "value [95 %]": f"{row.estimate:.2f} [{row.lower:.2f}, {row.upper:.2f}]" if row.estimable else f"not estimable: {row.reason}",
        }
        for row in _records(measured)
    )


MEMORY = {
    "bits-needed": "needed",
    "bits-had": "had: usable information of h about the good actions, given o",
    "bits-surplus": "surplus: of h about the state, given the good actions and o",
}
"""Quantities, and what they are called."""


def _memory(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "bits": MEMORY[row.quantity],
            "by": row.floor,
            "value [95 %, or bounds]": _bits(row) if row.estimable else f"none: {row.reason}",
        }
        for row in _records(rows)
    )


def _bits(row: Any) -> str:
    return f"{row.estimate:.3f}" if pd.isna(row.lower) else f"{row.estimate:.3f} [{row.lower:.3f}, {row.upper:.3f}]"


def _units(rows: pd.DataFrame) -> pd.DataFrame:
    """The best unit of every factor and horizon, beside the best by chance and the best of twins."""
    lines = []
    for (factor, horizon), cell in rows.groupby(["factor", "horizon"], sort=False):
        chance, twins = (cell[cell.floor == floor] for floor in ("best unit by chance", "best unit of twins"))
        best = cell.iloc[0]
        lines.append(
            {
                "factor": factor,
                "steps ahead": horizon,
                "best unit": best.site,
                "bits": f"{best.estimate:.3f}",
                "above the best by chance (95th percentile)": _above(chance),
                "above the best of untrained networks": f"{twins.gain.iloc[0]:+.3f} (p = {twins.p_value.iloc[0]:.2g})"
                if len(twins)
                else "none",
            }
        )
    return pd.DataFrame(lines)


def _above(cell: pd.DataFrame) -> str:
    return f"{cell.gain.iloc[0]:+.3f} (p = {cell.p_value.iloc[0]:.2g})"


def _extraction(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table.quantity.isin(["extraction", "extraction-planning"])]
    words = {"extraction": "total variation to the true law", "extraction-planning": "discounted return of planning in it"}
    return pd.DataFrame(
        {
            "of the law": words[row.quantity],
            "value": f"{row.estimate:.3f}" if row.estimable else f"not tested: {row.reason}",
            "beside": row.floor,
            "that has": f"{row.estimate + row.gain if row.quantity == 'extraction' else row.estimate - row.gain:.3f}"
            if row.estimable
            else "none",
            "read by": row.law if row.estimable else "nothing",
        }
        for row in _records(rows)
    )


def _steering(table: pd.DataFrame) -> pd.DataFrame:
    """Success against every control, and returns, for each factor and stream."""
    lines = []
    for (factor, stream), cell in table[table.quantity == "steering"].groupby(["factor", "stream"], sort=False):
        first = cell.iloc[0]
        line = {"factor": factor, "stream": stream}
        if not first.estimable:
            lines.append(line | {"steered": f"not tested: {first.reason}"})
            continue
        here = table[(table.factor == factor) & (table.stream == stream)]
        beside = here[here.quantity == "steering-beside"].set_index("floor").estimate
        earned = here[here.quantity == "steering-return"].set_index("floor").estimate
        line |= {"site": first.site, "decisions": str(first.n_rows), "steered": f"{100 * first.estimate:.0f} %"}
        line |= {str(kind): f"{100 * value:.0f} %" for kind, value in beside.items()}
        lines.append(line | {f"return, {kind}": f"{value:.2f}" for kind, value in earned.items()})
    return pd.DataFrame(lines).fillna("none")


def _necessity(table: pd.DataFrame) -> pd.DataFrame:
    """What the full erasure costs, beside its controls, and what it leaves."""
    lines = []
    for factor, cell in table[table.quantity == "necessity"].groupby("factor", sort=False):
        left = table[(table.quantity == "erasure") & (table.factor == factor)]
        bits = "; ".join(f"{row.estimate:.3f} ({row.floor})" for row in _records(left))
        lines += [
            {
                "factor": factor,
                "relevance": row.relevance,
                "costs": f"{row.estimate:.2f}" if row.estimable else f"not tested: {row.reason}",
                "beside": row.floor,
                "more than that [95 %]": _interval(row, 2) if row.estimable else "none",
                "bits left": bits or "none",
            }
            for row in _records(cell)
        ]
    return pd.DataFrame(lines)
