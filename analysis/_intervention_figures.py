"""Figures of interventions, each from saved results alone: what doses of an erasure earn, and how often steering succeeds."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from worldprobe.analysis._figures import COLOURS
from worldprobe.analysis._steering import CONTROLS


def plot_doses(table: pd.DataFrame, factor: str, ax: Axes | None = None) -> Axes:
    """Draw the discounted return against the dose: the factor erased, random erasures, other factors, and units that were silenced."""
    ax = ax or plt.subplots()[1]
    rows = table[(table.quantity == "dose") & (table.factor == factor)].sort_values("horizon", kind="stable")
    named = {
        "random": ("random, equal rank", COLOURS["floor"], "-"),
        "best unit": ("the unit that tells most", COLOURS["untrained"], "-"),
        "units": ("as many of the best units", COLOURS["untrained"], "--"),
    }
    doses, labelled = sorted(set(rows.horizon)), set[str]()
    for kind, curve in rows.groupby("floor", sort=False):
        words = str(kind)
        key = next((key for key in named if words.startswith(key) or words.endswith(f"best {key}")), "")
        label, colour, style = named.get(key, (f"{words}, erased instead", COLOURS["memory"], ":"))
        if words == "erased":
            label, colour, style = f"{factor} erased", COLOURS["agent"], "-"
            ax.fill_between(range(len(curve)), curve.lower, curve.upper, color=colour, alpha=0.2, lw=0)
        ax.plot(range(len(curve)), curve.estimate, style, color=colour, label=None if label in labelled else label)
        labelled.add(label)
    ax.set(xlabel="dose: % gone after an episode", ylabel="discounted return", title=factor)
    ax.set_xticks(range(len(doses)), [str(dose) for dose in doses])
    return ax


def plot_steering(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw for every factor the share of decisions that follow the changed belief: steered, swapped, left alone, and under each control."""
    ax = ax or plt.subplots()[1]
    steered = table[(table.quantity == "steering") & table.estimable]
    beside = table[table.quantity == "steering-beside"]
    factors = list(dict.fromkeys(steered.factor))
    colours = dict(zip(CONTROLS, (COLOURS["floor"], COLOURS["memory"], COLOURS["counterfeit"]), strict=True))
    kinds = {"steered": COLOURS["agent"], "swapped": COLOURS["ceiling"], "untouched": COLOURS["untrained"], **colours}
    width = 0.8 / len(kinds)
    for place, (kind, colour) in enumerate(kinds.items()):
        rows = (steered if kind == "steered" else beside[beside.floor == kind]).groupby("factor", sort=False).estimate.mean()
        height = 100 * rows.reindex(factors).to_numpy(float)
        ax.bar(np.arange(len(factors)) + (place - (len(kinds) - 1) / 2) * width, height, 0.9 * width, color=colour, label=kind)
    ax.set_xticks(np.arange(len(factors)), factors)
    ax.set(ylabel="% of decisions\nas the changed belief asks", ylim=(0, 105))
    ax.grid(False, axis="x")
    return ax
