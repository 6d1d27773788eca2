"""R8: the choices of an agent that aims at deep goals contain the law; those of an agent that looks one step ahead do not.

In random Markov decision processes, agents that know the law choose between "s' at most k times in n tries" and "more often", for every
move and for the k of a bisection (Richens et al. 2025). The law is read from where each choice switches (`query_goals`): the deeper the
goals, the finer. An agent that looks at the next try only answers the same for every k.

    python studies/r8_behavioural_extraction.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import tyro

from worldprobe.analysis import myopic_chooser, optimal_chooser, query_goals
from worldprobe.worlds import RandomConfig, RandomWorld

CLAIMS = {10: 0.03, 20: 0.015, 50: 0.006}
"""Mean error that the optimal agent's answers stay below."""


@dataclass(frozen=True)
class Study:
    """Settings of R8."""

    directory: Path = Path("runs/r8")
    """Where table and figure are kept."""
    n_worlds: int = 5
    """Random worlds; seeds 0, 1, ..."""
    depths: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    """Tries n of a goal."""


def main(study: Study) -> pd.DataFrame:
    """Ask, write r8.csv and r8.png, and print mean errors over the moves that can happen."""
    study.directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(study.n_worlds):
        world = RandomWorld(RandomConfig(seed=seed))
        law = world.tables.transition.numpy()
        for depth in study.depths:
            for agent, chooser in (("optimal", optimal_chooser(law)), ("one step", myopic_chooser(law))):
                errors = np.abs(query_goals(chooser, len(law[0]), len(law), depth).transition - law)[law > 0]
                rows.append({"world": seed, "agent": agent, "depth": depth, "error": float(errors.mean())})
    table = pd.DataFrame(rows)
    table.to_csv(study.directory / "r8.csv", index=False, float_format="%.6f")
    draw(table).savefig(study.directory / "r8.png", dpi=160, bbox_inches="tight")
    means = table.groupby(["agent", "depth"]).error.mean()
    print(means.unstack("depth").round(4).to_string())
    for depth, claim in CLAIMS.items():
        if depth in study.depths:
            print(f"depth {depth}: mean error {means['optimal', depth]:.4f} (claim: <= {claim})")
    return table


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw the mean error against the depth of the goals."""
    figure, ax = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
    sns.lineplot(table, x="depth", y="error", hue="agent", marker="o", ax=ax)
    ax.plot(list(CLAIMS), list(CLAIMS.values()), color="black", linestyle="none", marker="_", markersize=14, label="claimed bound")
    ax.set(xscale="log", yscale="log", xlabel="tries n of a goal", ylabel="mean error of a transition probability")
    ax.legend()
    sns.despine(figure)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
