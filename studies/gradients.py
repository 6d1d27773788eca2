"""Gradients of the model: does the update of a Q-learner respond to actions and states as its world does?

A GRU learns to swing up a pendulum whose velocity is hidden. World and core are forked in pairs: equal but for the first action, or
from two close states. What the frozen decoder reads from the core in the two is compared with the world's Jacobians, beside the
initialisation, the present input, and the exact filter; and with the error of what it reads.

    python studies/gradients.py
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
import tyro

from worldprobe.activations import CommonBehaviour, open_recording, record
from worldprobe.agents import find_training, load_checkpoint, train, training_preset
from worldprobe.analysis import Examination, Labels, Stream, Twins, measure_gradients
from worldprobe.worlds import make_world

COLOURS = {"trained": "#0072b2", "own init": "#e69f00", "present input": "#9a9a9a", "exact filter": "#222222"}


@dataclass(frozen=True)
class Study:
    """Settings."""

    directory: Path = Path("runs/gradients")
    """Where network, recording, table and figure are kept."""
    world: str = "pendulum"
    """A smooth world of the registry."""
    seed: int = 0
    """Of the training."""
    n_episodes: int = 400
    """Episodes of the common streams."""
    n_forks: int = 2000
    """Pairs of forks."""
    horizon: int = 8
    """Forked steps."""


def main(study: Study) -> pd.DataFrame:
    """Train, measure, write gradients.csv and gradients.png, and print the table."""
    world, (network, config) = make_world(study.world), training_preset(study.world, "pqn")
    train(world, network, config, study.directory / "training", study.seed)
    training = find_training(study.directory / "training")
    agent, own = load_checkpoint(training.best)[0], load_checkpoint(training.checkpoints[0])[0]
    common = CommonBehaviour(world, agent.channels)
    record(None, world, study.directory / "common.wpr", common, study.n_episodes, seed=0, n_envs=100).close()
    with open_recording(study.directory / "common.wpr") as recording:
        examination = Examination(agent, Stream(world, recording, Labels(world.factors)), "common", Twins(own))
        found = measure_gradients(examination, horizon=study.horizon, n_forks=study.n_forks)
    rows = []
    for each in found:
        numbers = {f"{name}{end}": asdict(getattr(each, name))[key] for name in SCORES for end, key in ENDS.items()}
        rows.append({"who": "trained" if each.who == agent.name else each.who, "to": each.to, "k": each.horizon, **numbers})
    table = pd.DataFrame(rows)
    table.to_csv(study.directory / "gradients.csv", index=False, float_format="%.6f")
    draw(table).savefig(study.directory / "gradients.png", dpi=160, bbox_inches="tight")
    print(
        table[table.k.isin([1, study.horizon])]
        .drop(columns=[f"{name}{end}" for name in SCORES for end in (" low", " high")])
        .round(3)
        .to_string(index=False)
    )
    return table


SCORES = ("cosine", "relative_error", "prediction_error")
ENDS = {"": "estimate", " low": "lower", " high": "upper"}


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw cosine, relative error and prediction error against the forked step, for responses to actions and to states."""
    figure, axes = plt.subplots(2, 3, figsize=(9.6, 5.4), sharex=True, layout="constrained")
    for row, to in zip(axes, ("action", "state"), strict=True):
        for ax, score in zip(row, SCORES, strict=True):
            for who, colour in COLOURS.items():
                curve = table[(table.to == to) & (table.who == who)]
                ax.plot(curve.k, curve[score], marker="o", markersize=3, color=colour, label=who)
                ax.fill_between(curve.k, curve[f"{score} low"], curve[f"{score} high"], color=colour, alpha=0.2, lw=0)
            ax.set(
                title=f"{score.replace('_', ' ')}, response to {to}" if score != "prediction_error" else f"prediction error ({to} pairs)"
            )
            ax.spines[["top", "right"]].set_visible(False)
            ax.axhline(0.0 if score == "cosine" else 1.0, color="black", linewidth=0.8, linestyle=":")
            if score == "relative_error":
                ax.set(yscale="log")
    for ax in axes[1]:
        ax.set(xlabel="forked steps k")
    axes[0, 0].legend(frameon=False, fontsize="small")
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
