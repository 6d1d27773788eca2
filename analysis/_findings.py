"""What a run directory holds of an answer, read from saved results alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from worldprobe.analysis._examples import load_examples
from worldprobe.analysis._ladder import Rung
from worldprobe.analysis._tables import read_table
from worldprobe.worlds import Factor, Headline


@dataclass(frozen=True)
class Findings:
    """What a run directory holds of an answer."""

    table: pd.DataFrame
    """results.csv"""
    ladders: dict[str, list[Rung]]
    """ladder.json: the verdicts of every factor; those of the headline factor are the run's."""
    summary: dict[str, Any]
    """summary.json: world, factors, headline, returns, optimum, visits, versions, configuration and what was not measured."""
    examples: dict[str, Any]
    """examples.npz"""

    @classmethod
    def read(cls, directory: Path) -> Findings:
        """Read the saved results of a run.

        Raises
        ------
        FileNotFoundError
            If the run was not probed yet.
        """
        for name in ("results.csv", "ladder.json", "summary.json", "examples.npz"):
            if not (directory / name).exists():
                raise FileNotFoundError(f"{directory / name} is missing: run `worldprobe probe {directory}` first")
        table = read_table(directory / "results.csv")
        saved = json.loads((directory / "ladder.json").read_text())
        ladders = {factor: [Rung(**rung) for rung in rungs] for factor, rungs in saved.items()}
        return cls(table, ladders, json.loads((directory / "summary.json").read_text()), load_examples(directory / "examples.npz"))

    @property
    def headline(self) -> Headline:
        """The world's pre-registered cell."""
        return Headline(**self.summary["headline"])

    @property
    def ladder(self) -> list[Rung]:
        """The verdicts in the headline cell."""
        return self.ladders[self.headline.factor]

    @property
    def factors(self) -> list[Factor]:
        """The world's factors."""
        return [Factor(**{**factor, "labels": tuple(factor["labels"])}) for factor in self.summary["factors"]]
