"""The tables of the report: what a reader needs of results.csv, in words and with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from worldprobe.analysis._bits import IN_FAMILY
from worldprobe.analysis._findings import Findings
from worldprobe.analysis._intervention_tables import make_intervention_tables
from worldprobe.analysis._sufficiency import PERSISTENCE

RELEVANCE = ("policy", "value", "irrelevant", "unknown")
"""Order in which factors are listed: what the optimal policy needs comes first."""


def make_tables(findings: Findings) -> dict[str, pd.DataFrame]:
    """Return every table of the report by name; one without rows was not measured."""
    table = findings.table[findings.table.step == -1]
    return {
        "ladders": _ladders(findings),
        "states": _states(table),
        "bits": _bits(table),
        "sites": _readable(table[table.quantity == "site"], ["site", "factor"]),
        "networks": _networks(table, findings.headline.horizon),
        "transitions": _readable(table[table.quantity == "transition"], ["factor", "floor"]),
        "sufficiency": _sufficiency(table, findings.headline.streams),
        "visits": _visits(findings, table),
        **make_intervention_tables(table),
    }


def percent(row: Any) -> str:
    """A share with its interval."""
    return f"{100 * row.estimate:.0f} % [{100 * row.lower:.0f}, {100 * row.upper:.0f}]"


def _records(rows: pd.DataFrame) -> Iterator[Any]:
    """Rows as named tuples."""
    yield from rows.itertuples()


def _share(row: Any) -> str:
    return percent(row) if row.estimable else f"not estimable: {row.reason}"


def _number(value: float | None) -> str:
    return "none" if value is None or np.isnan(value) else f"{value:.3f}"


def _ladders(findings: Findings) -> pd.DataFrame:
    """Verdicts of every factor, the headline's first."""
    names = sorted(findings.ladders, key=lambda name: name != findings.headline.factor)
    relevance = {factor.name: factor.relevance for factor in findings.factors}
    verdicts = {name: {rung.number: rung.verdict for rung in findings.ladders[name]} for name in names}
    rows = [{"factor": name, "relevance": relevance[name]} | verdicts[name] for name in names]
    tested = [rung.number for rung in findings.ladder if any(row[rung.number] != "not tested" for row in rows)]
    return pd.DataFrame(rows, columns=["factor", "relevance", *tested])


def _states(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[(table.quantity == "emergence") & table.floor.isin(["F0 best", "F1 best"])]
    ordered = rows.assign(order=rows.relevance.map(RELEVANCE.index)).sort_values(["stream", "order"], kind="stable")
    return _readable(ordered, ["stream", "factor", "relevance", "floor"])


def _bits(table: pd.DataFrame) -> pd.DataFrame:
    """Usable information of the hidden state, and what the same family makes of the exact belief."""
    rows = table[table.quantity == "bits"]
    belief = rows[rows.agent == IN_FAMILY].set_index(["factor", "floor"]).bits_agent
    return pd.DataFrame(
        {
            "factor": row.factor,
            "probe": row.floor.removeprefix("F0 "),
            "bits: input alone": f"{row.bits_floor:.3f}",
            "with h": f"{row.bits_agent:.3f}",
            "with the exact belief, same probe": f"{belief[row.factor, row.floor]:.3f}"
            if (row.factor, row.floor) in belief.index
            else "none",
            "exact belief": _number(row.bits_ceiling),
            "usable information of h [95 %]": f"{row.gain:.3f} [{row.gain_lower:.3f}, {row.gain_upper:.3f}]",
            "share": _share(row),
        }
        for row in _records(rows[rows.agent != IN_FAMILY])
    )


def _networks(table: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """What holds over networks: for the algorithm, on its reward and on another's."""
    rows = table[table.quantity.isin(["algorithm", "algorithm-update"]) & table.horizon.isin([0, 1, horizon])]
    readable = _readable(rows, ["agent", "factor", "horizon"])
    readable.insert(1, "measured", np.where(rows.quantity == "algorithm", "state now", "own update"))
    return readable


def _sufficiency(table: pd.DataFrame, stream: str) -> pd.DataFrame:
    """Shares of the tests under the world's law, their range under counterfeit ones, and the persistence predictor's."""
    rows = table[(table.quantity == "sufficiency") & (table.stream == stream)]
    lines = []
    for keys, cell in rows.groupby(["factor", "horizon"], sort=False):
        persistence, agent = (cell[(cell.agent == PERSISTENCE) == is_it] for is_it in (True, False))
        others = agent[(agent.law != "true") & agent.estimable].estimate
        spread = f"{100 * others.min():.0f} to {100 * others.max():.0f} % under {len(others)} laws" if len(others) else "none"
        line = {"factor": keys[0], "actions executed": keys[1], "share, world's law [95 %]": _true_share(agent)}
        lines.append(line | {"counterfeit laws": spread, "persistence, world's law": _true_share(persistence)})
    return pd.DataFrame(lines)


def _true_share(cell: pd.DataFrame) -> str:
    return _share(cell[cell.law == "true"].iloc[0])


def _visits(findings: Findings, table: pd.DataFrame) -> pd.DataFrame:
    """How evenly the streams visit the classes, and what even visits would make of the share."""
    rows = table[(table.quantity == "reweighted") & (table.floor == "F0 best")]
    evenly = {(row.stream, row.factor): _share(row) for row in _records(rows)}
    visits = findings.summary["visits"]
    return pd.DataFrame([row | {"E|F0 with all classes even [95 %]": evenly.get((row["stream"], row["factor"]), "none")} for row in visits])


def _readable(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Choose and format the columns that a reader needs."""
    readable = rows[by].copy()
    readable["share [95 %]"] = [_share(row) for row in _records(rows)]
    readable["gain in R² [95 %]"] = [f"{row.gain:+.3f} [{row.gain_lower:+.3f}, {row.gain_upper:+.3f}]" for row in _records(rows)]
    for column, title in (("r2_floor", "R² floor"), ("r2_agent", "R² with h"), ("r2_ceiling", "R² ceiling")):
        readable[title] = [_number(value) for value in rows[column]]
    return readable
