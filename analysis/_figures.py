"""The figures of the report, each from saved results alone: every function draws on axes and returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from worldprobe.analysis._examples import Arrays
from worldprobe.worlds import Factor

COLOURS = {
    "ceiling": "#222222",
    "agent": "#0072b2",
    "floor": "#9a9a9a",
    "memory": "#5e5e5e",
    "untrained": "#e69f00",
    "counterfeit": "#cc3311",
}
"""One colour per role, the same in every figure (distinguishable without colour vision)."""

NAMES = {
    "policy": "needed by the optimal policy",
    "value": "in Q* only",
    "irrelevant": "irrelevant to reward",
    "unknown": "relevance unknown",
}

FORKED_STEPS = "forked steps k under random actions"

STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.dpi": 110,
}


def plot_own_update(table: pd.DataFrame, factor: str, stream: str, ax: Axes | None = None) -> Axes:
    """Draw R^2 of the decoded factor after k forked steps: floors, initialisation, the agent's own update, the exact filter."""
    ax = ax or plt.subplots()[1]
    rows = _rows(table, "own-update", factor, stream)
    best = rows[rows.floor == "F0 best"].sort_values("horizon")
    _curve(ax, best, "r2_ceiling", "exact Bayes filter (ceiling)", "ceiling", "-")
    _curve(ax, best, "r2_agent", "agent's own update, decoder frozen", "agent", "-", marker="o")
    ax.fill_between(best.horizon, best.r2_floor + best.gain_lower, best.r2_floor + best.gain_upper, color=COLOURS["agent"], alpha=0.2, lw=0)
    _curve(ax, _rows(table, "own-update-refit", factor, stream), "r2_agent", "agent, decoder refit", "agent", ":")
    _curve(ax, rows[rows.floor == "own init"], "r2_floor", "its untrained twin", "untrained", "-")
    _curve(ax, rows[rows.floor == "F1 best"], "r2_floor", "floor F1: history and twin", "memory", "--")
    _curve(ax, best, "r2_floor", "floor F0: present input and time", "floor", "-")
    shown = rows[["r2_ceiling", "r2_agent"]].to_numpy()
    lowest, highest = min(0.0, float(np.nanmin(shown))), float(np.nanmax(shown))
    ax.set(xlabel=FORKED_STEPS, ylabel="R² of the decoded factor", ylim=(lowest - 0.05, min(1.03, highest + 0.12)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def plot_model_share(table: pd.DataFrame, factor: str, stream: str, ax: Axes | None = None) -> Axes:
    """Draw E_model(k), the share of the room between floor and filter, beside its value under counterfeit laws."""
    ax = ax or plt.subplots()[1]
    rows = _rows(table, "own-update", factor, stream)
    best = rows[(rows.floor == "F0 best") & rows.estimable].sort_values("horizon")
    counterfeit = table[(table.quantity == "own-update") & (table.factor == factor) & (table.stream == stream) & (table.law != "true")]
    ax.axhline(1, color=COLOURS["ceiling"], lw=1)
    ax.axhline(0, color=COLOURS["floor"], lw=1)
    ax.plot(
        counterfeit.horizon,
        counterfeit.estimate,
        "x",
        color=COLOURS["counterfeit"],
        ms=4,
        alpha=0.6,
        zorder=3,
        label="under counterfeit laws",
    )
    error = np.abs(best[["lower", "upper"]].to_numpy().T - best.estimate.to_numpy())
    ax.errorbar(best.horizon, best.estimate, error, color=COLOURS["agent"], marker="o", capsize=2, label="under the world's law, 95 %")
    lowest = min([0.0, *best.lower, *counterfeit.estimate.dropna()])
    ax.set(xlabel=FORKED_STEPS, ylabel="$E_{model}(k)$, share of the room", ylim=(max(-1.5, lowest) - 0.1, 1.1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def plot_emergence(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw E|F of every factor's present value beyond each floor, on both streams, with 95 % intervals."""
    ax = ax or plt.subplots()[1]
    rows = table[(table.quantity == "emergence") & table.floor.isin(["F0 best", "F1 best"]) & (table.step == -1)]
    factors = list(dict.fromkeys(rows.factor))
    styles = {
        ("F0 best", "own"): ("o", "full"),
        ("F0 best", "common"): ("s", "full"),
        ("F1 best", "own"): ("o", "none"),
        ("F1 best", "common"): ("s", "none"),
    }
    meaning = {"F0 best": "beyond the input", "F1 best": "beyond memory"}
    for offset, ((floor, stream), (marker, fill)) in zip(np.linspace(-0.24, 0.24, 4), styles.items(), strict=True):
        chosen = rows[(rows.floor == floor) & (rows.stream == stream) & rows.estimable]
        height = np.array([factors.index(name) for name in chosen.factor], float) + offset
        error = np.abs(chosen[["lower", "upper"]].to_numpy().T - chosen.estimate.to_numpy())
        colour = COLOURS["agent"] if floor == "F0 best" else COLOURS["memory"]
        ax.errorbar(
            chosen.estimate,
            height,
            xerr=error,
            fmt=marker,
            fillstyle=fill,
            color=colour,
            capsize=2,
            label=f"{meaning[floor]}, {stream} stream",
        )
        _say_why(ax, rows[(rows.floor == floor) & (rows.stream == stream) & ~rows.estimable], factors, offset)
    relevance = rows.drop_duplicates("factor").set_index("factor").relevance
    ax.set_yticks(range(len(factors)), [f"{name}\n({NAMES[str(relevance[name])]})" for name in factors])
    ax.axvline(0, color=COLOURS["floor"], lw=1)
    ax.axvline(1, color=COLOURS["ceiling"], lw=1)
    ax.set(xlabel="E|F: share of what can be known that the hidden state adds to the floor", ylim=(len(factors) - 0.5, -0.5))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize="small")
    return ax


def _say_why(ax: Axes, missing: pd.DataFrame, factors: Sequence[str], offset: float) -> None:
    """Write "not estimable" where a point would be."""
    for name in missing.factor:
        ax.annotate("not estimable", (0.02, factors.index(name) + offset), va="center", fontsize=6, color=COLOURS["memory"])


def plot_training(table: pd.DataFrame, quantity: str, horizon: int, ax: Axes | None = None) -> Axes:
    """Draw the share of every factor beyond the input over training, on the common streams, with 95 % bands.

    `quantity` is "emergence" (the state now, `horizon` 0) or "own-update" (after `horizon` forked steps).
    """
    ax = ax or plt.subplots()[1]
    rows = table[(table.step >= 0) & (table.quantity == quantity) & (table.horizon == horizon) & table.estimable]
    for factor, colour in zip(dict.fromkeys(rows.factor), sns.color_palette("colorblind"), strict=False):
        chosen = rows[rows.factor == factor].sort_values("step")
        ax.plot(chosen.step, chosen.estimate, color=colour, marker="o", ms=3, label=factor)
        ax.fill_between(chosen.step, chosen.lower, chosen.upper, color=colour, alpha=0.15, lw=0)
    ax.axhline(0, color=COLOURS["floor"], lw=1)
    ax.set(ylabel="share beyond the input", ylim=(min(-0.05, rows.estimate.min() - 0.05) if len(rows) else -0.05, 1.05))
    _training_axis(ax, rows.step)
    ax.legend(fontsize="small")
    return ax


def plot_return(training: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Draw the greedy return over training beside the best known policy's; `training` has "step", "return" and "best_known"."""
    ax = ax or plt.subplots()[1]
    ax.plot(training["step"], training["return"], color=COLOURS["agent"], lw=1.2, label="this network")
    if training["best_known"] is not None:
        ax.axhline(training["best_known"], color=COLOURS["ceiling"], lw=1, label="best known policy")
    ax.set(ylabel="greedy return (sum of rewards)")
    _training_axis(ax, pd.Series(training["step"]))
    ax.legend(fontsize="small", loc="lower right")
    return ax


def _training_axis(ax: Axes, steps: pd.Series) -> None:
    """Steps of training on a logarithmic axis that begins with the untrained network."""
    trained = steps[steps > 0]
    first = max(1.0, float(trained.min())) if len(trained) else 1.0
    ax.set_xscale("symlog", linthresh=first, linscale=0.5)
    ax.set(xlabel="environment steps of training", xlim=(-first / 3, 1.3 * max(first, float(steps.max()))))
    ax.xaxis.set_major_locator(FixedLocator([0, *(10.0**power for power in range(10) if 10.0**power >= first)]))
    ax.xaxis.set_minor_locator(NullLocator())


def draw_beliefs(examples: Arrays, factor: Factor, episode: int = 0) -> Figure:
    """Draw what the hidden state says beside what can be believed and what is true, along one episode.

    A categorical factor is a map of class against time, or snapshots on the plane where its classes lie on one; a continuous
    factor is a trace.
    """
    kinds = [kind for kind in ("believed", "decoded") if f"{episode}/{factor.name}/{kind}" in examples]
    coordinates = examples.get(f"coordinates/{factor.name}")
    if not factor.is_categorical:
        return _traces(examples, factor, episode, kinds)
    if coordinates is not None and min(len(np.unique(coordinates[:, axis])) for axis in (0, 1)) > 3:
        return _snapshots(examples, factor, episode, kinds, coordinates.astype(float))
    return _maps(examples, factor, episode, kinds)


TITLES = {"believed": "exact belief", "decoded": "decoded from the hidden state"}


def _maps(examples: Arrays, factor: Factor, episode: int, kinds: Sequence[str]) -> Figure:
    """Class against time, the true class marked."""
    figure, axes = plt.subplots(1, len(kinds), figsize=(7.2, 0.9 + 0.2 * factor.size), sharey=True, layout="constrained", squeeze=False)
    true = examples[f"{episode}/{factor.name}/true"].astype(float).argmax(1)
    for ax, kind in zip(axes[0], kinds, strict=True):
        image = ax.imshow(
            examples[f"{episode}/{factor.name}/{kind}"].astype(float).T, aspect="auto", origin="lower", vmin=0, vmax=1, cmap="Blues"
        )
        ax.plot(np.arange(len(true)), true, ".", color=COLOURS["counterfeit"], ms=5, label="true")
        ax.set(title=TITLES[kind], xlabel="step t of the episode")
        ax.grid(visible=False)
    axes[0, 0].set_yticks(range(factor.size), factor.labels or [str(index) for index in range(factor.size)], fontsize=7)
    axes[0, 0].set_ylabel(factor.name)
    axes[0, -1].legend(loc="upper right", fontsize="small")
    figure.colorbar(image, ax=axes, label="probability")
    return figure


def _snapshots(
    examples: Arrays, factor: Factor, episode: int, kinds: Sequence[str], coordinates: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> Figure:
    """Probability on the plane at five steps, the true place marked."""
    true = examples[f"{episode}/{factor.name}/true"].astype(float).argmax(1)
    steps = np.unique(np.linspace(0, len(true) - 1, 5).astype(int))
    figure, axes = plt.subplots(
        len(kinds), len(steps), figsize=(7.6, 1.55 * len(kinds) + 0.3), sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    for row, kind in zip(axes, kinds, strict=True):
        for ax, step in zip(row, steps, strict=True):
            values = examples[f"{episode}/{factor.name}/{kind}"].astype(float)[step]
            points = ax.scatter(
                *coordinates.T,
                c=values,
                marker="s",
                s=60,
                vmin=0,
                vmax=max(0.3, float(values.max())),
                cmap="Blues",
                edgecolor="#cccccc",
                lw=0.4,
            )
            ax.plot(*coordinates[true[step]], "x", color=COLOURS["counterfeit"], ms=7, mew=2)
            ax.margins(0.1)
            ax.spines[:].set_visible(False)
            ax.set(xticks=[], yticks=[], aspect="equal", title=f"t = {step}" if kind == kinds[0] else "")
            ax.grid(visible=False)
        row[0].set_ylabel(TITLES[kind].replace(" from", "\nfrom"), fontsize=8)
        figure.colorbar(points, ax=row, label="probability", shrink=0.8)
    return figure


def _traces(examples: Arrays, factor: Factor, episode: int, kinds: Sequence[str]) -> Figure:
    """Value against time, true, believed and decoded."""
    figure, axes = plt.subplots(1, factor.size, figsize=(3.6 * factor.size, 2.4), layout="constrained", squeeze=False)
    for dimension, ax in enumerate(axes[0]):
        for kind, colour, style in (("true", "counterfeit", "."), ("believed", "ceiling", "-"), ("decoded", "agent", "-")):
            if kind == "true" or kind in kinds:
                ax.plot(
                    examples[f"{episode}/{factor.name}/{kind}"][:, dimension].astype(float),
                    style,
                    color=COLOURS[colour],
                    label=TITLES.get(kind, "true"),
                )
        name = factor.labels[dimension] if factor.labels else f"{factor.name} {dimension}" if factor.size > 1 else factor.name
        ax.set(xlabel="step t of the episode", ylabel=f"{name} [{factor.unit}]" if factor.unit else name)
    axes[0, 0].legend(fontsize="small")
    return figure


def _rows(table: pd.DataFrame, quantity: str, factor: str, stream: str) -> pd.DataFrame:
    """The run's own rows of one quantity, factor and stream, under the world's law."""
    return table[
        (table.quantity == quantity) & (table.factor == factor) & (table.stream == stream) & (table.law == "true") & (table.step == -1)
    ].sort_values("horizon")


def _curve(ax: Axes, rows: pd.DataFrame, column: str, label: str, role: str, style: str, marker: str = "") -> None:
    if len(rows):
        ax.plot(rows.horizon, rows[column], style, marker=marker, ms=4, color=COLOURS[role], label=label)
