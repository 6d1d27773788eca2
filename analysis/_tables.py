"""Tables of measurements on disk, and files that are there whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd

from worldprobe.analysis._measurement import Cell, Measurement, Share
from worldprobe.probes import false_discovery_rate
from worldprobe.worlds import Headline

WORDS = ("quantity", "agent", "stream", "site", "floor", "law", "factor", "relevance", "reason", "unit")
"""Columns that stay words: "true" is a law there, not a truth value."""


COLUMNS = [
    *(field.name for kind in (Cell, Share) for field in fields(kind)),
    *(field.name for field in fields(Measurement) if field.name not in ("cell", "share")),
]


def as_table(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """Return measurements as one tidy table, of the same columns whatever was measured."""
    return pd.DataFrame([measurement.row() for measurement in measurements], columns=COLUMNS)


def with_false_discovery_rate(table: pd.DataFrame, headline: Headline) -> pd.DataFrame:
    """Add `q_value`: the p-values of everything but the headline factor, adjusted for their number.

    The headline cell was fixed beforehand and stands alone (its q is its p); all other cells are a grid that was searched
    (Benjamini & Hochberg 1995).
    """
    searched = (table.factor != headline.factor) & table.p_value.notna()
    adjusted = table.p_value.copy()
    if searched.any():
        adjusted[searched] = false_discovery_rate(table.p_value[searched].to_numpy(float))
    return table.assign(q_value=adjusted)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV: ten digits, "nan" where there is no number."""
    write_atomically(path, table.to_csv(index=False, na_rep="nan", float_format="%.10g"))


def read_table(path: Path) -> pd.DataFrame:
    """Read what `write_table` wrote."""
    return pd.read_csv(path, dtype=dict.fromkeys(WORDS, str), keep_default_na=False, na_values=["nan"])


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text)
    temporary.replace(path)
