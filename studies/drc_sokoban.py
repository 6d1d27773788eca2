"""Does a network without a model learn to solve Sokoban levels that it never saw, and does more time to think help it?

A DRC(2, 2) of 16 channels with a Q head learns by PQN(lambda) on generated boards of 6 x 6 with one box. Along the training its greedy
policy plays levels of layouts that training never meets: the share that it solves is the learning curve. The last network plays
them again with fewer and with more ticks per move than it was trained with. Beside it a flat GRU of 128 units; untrained networks
are where the curves begin.

    python studies/drc_sokoban.py --n-processes 2
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
import tyro
from joblib import Parallel, delayed

from worldprobe.agents import (
    NetworkConfig,
    RecurrentQNetwork,
    evaluate_return,
    find_training,
    load_checkpoint,
    make_network,
    seeded_generator,
    train,
    training_preset,
)
from worldprobe.worlds import Sokoban, SokobanConfig

NETWORKS = {"DRC(2, 2)": training_preset("sokoban")[0], "GRU": NetworkConfig(core="gru", hidden_size=128)}
COLOURS = {"DRC(2, 2)": "#0072b2", "GRU": "#e69f00"}
EXPLORES = 250_000
"""Steps over which exploration falls."""
TICKS = (1, 2, 3, 4, 6)
"""Ticks per move that the trained DRC is given."""


@dataclass(frozen=True)
class Study:
    """Settings."""

    directory: Path = Path("runs/drc_sokoban")
    """Where networks, tables and figure are kept."""
    total_steps: int = 2_000_000
    """Environment steps of each training: half an hour on one core."""
    n_levels: int = 10_000
    """Levels that training draws from."""
    n_episodes: int = 1000
    """Unseen levels in each evaluation."""
    n_checkpoints: int = 16
    """Points of the curve."""
    networks: tuple[str, ...] = tuple(NETWORKS)
    """Which networks."""
    n_processes: int = 2
    """Networks at once."""


def main(study: Study) -> pd.DataFrame:
    """Train, play unseen levels, write drc_sokoban.csv, ticks.csv and drc_sokoban.png, and print the shares solved."""
    curves = Parallel(n_jobs=study.n_processes)(delayed(learning_curve)(study, name) for name in study.networks)
    table = pd.concat(curves, ignore_index=True)
    table.to_csv(study.directory / "drc_sokoban.csv", index=False, float_format="%.6f")
    print(table.pivot(index="step", columns="network", values="solved").round(3).to_string())
    if "DRC(2, 2)" in study.networks:
        ticks = pd.DataFrame([{"ticks": n, **solved(with_ticks(study, n), study.n_episodes)} for n in TICKS])
        ticks.to_csv(study.directory / "ticks.csv", index=False, float_format="%.6f")
        print(ticks.round(3).to_string(index=False))
    draw(table).savefig(study.directory / "drc_sokoban.png", dpi=160, bbox_inches="tight")
    return table


def learning_curve(study: Study, name: str) -> pd.DataFrame:
    """Train a network and return what every checkpoint solves."""
    torch.set_num_threads(1)
    world = Sokoban(SokobanConfig(size=6, n_boxes=1, n_levels=study.n_levels))
    _, preset = training_preset("sokoban")
    config = replace(
        preset,
        total_steps=study.total_steps,
        exploration_fraction=min(EXPLORES / study.total_steps, 1.0),
        n_checkpoints=study.n_checkpoints,
    )
    directory = study.directory / name.split("(")[0].lower()
    training = train(world, NETWORKS[name], config, directory, seed=0)
    return pd.DataFrame(
        [
            {"network": name, "step": step, **solved(load_checkpoint(path)[0], study.n_episodes)}
            for step, path in training.checkpoints.items()
        ]
    )


def solved(network: RecurrentQNetwork, n_episodes: int) -> dict[str, float]:
    """Return the share of unseen levels that the greedy policy solves, its standard error, and the mean return.

    With one box every move pays the step reward, and nothing else but the solution, once: what is left of the return is the share.
    """
    config = SokobanConfig(size=6, n_boxes=1, split="test", n_levels=n_episodes)
    result = evaluate_return(network, Sokoban(config), n_episodes, seeded_generator(0, "unseen levels"))
    won = (result.mean_return - config.step_reward * result.mean_length) / (config.box_reward + config.solved_reward)
    wins = min(max(won, 0.0), 1.0)
    return {"solved": wins, "standard_error": math.sqrt(wins * (1 - wins) / result.n_episodes), "return": result.mean_return}


def with_ticks(study: Study, n_ticks: int) -> RecurrentQNetwork:
    """Return the trained DRC with other ticks per move; they share their weights."""
    trained, _ = load_checkpoint(find_training(study.directory / "drc").final)
    slower = make_network(Sokoban(SokobanConfig(n_levels=16)), replace(trained.config, n_ticks=n_ticks), seed=0)
    slower.load_state_dict(trained.state_dict())
    return slower


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw the learning curves."""
    figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for name, curve in table.groupby("network"):
        ax.errorbar(
            curve.step / 1e6, curve.solved, yerr=1.96 * curve.standard_error, marker="o", markersize=4, capsize=2,
            color=COLOURS[str(name)], label=name,
        )  # fmt: skip
    ax.axhline(0.9, color="#9a9a9a", linestyle=":")
    ax.set(xlabel="environment steps (millions)", ylabel="unseen levels solved", ylim=(0, 1))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
