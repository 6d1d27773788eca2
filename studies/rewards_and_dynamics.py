"""How many rewards identify the dynamics? A Q-learner with K heads learns K rewards; what law do its values imply?

In a random world (20 states, 5 actions, 5 successors) a network learns the values of K = 1 to 16 rewards at once, on random
behaviour. The Bellman equation of its heads is inverted; beside it stands what exact values of as many rewards imply, what the values
of its initialisation do, and a uniform law.

    python studies/rewards_and_dynamics.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import tyro

from worldprobe.activations import CommonBehaviour, open_recording, record
from worldprobe.agents import NetworkConfig, PqnConfig, find_training, load_checkpoint, train
from worldprobe.analysis import Examination, ExtractedModel, Labels, QTable, Stream, invert_bellman, read_q_table
from worldprobe.probes import t_interval
from worldprobe.worlds import RandomConfig, RandomWorld, solve_rewards

COLOURS = {"exact values": "#222222", "trained": "#0072b2", "own init": "#e69f00", "uniform": "#9a9a9a"}


@dataclass(frozen=True)
class Study:
    """Settings."""

    directory: Path = Path("runs/rewards_and_dynamics")
    """Where networks, recordings, table and figure are kept."""
    n_rewards: tuple[int, ...] = (1, 2, 5, 10, 16)
    """K."""
    n_worlds: int = 3
    """Worlds and networks for each K."""
    total_steps: int = 400_000
    """Environment steps of each training."""


def main(study: Study) -> pd.DataFrame:
    """Train, invert, write rewards_and_dynamics.csv and .png, and print the table."""
    rows = [row for seed in range(study.n_worlds) for K in study.n_rewards for row in one_network(study, K, seed)]
    table = pd.DataFrame(rows)
    table.to_csv(study.directory / "rewards_and_dynamics.csv", index=False, float_format="%.6f")
    draw(table).savefig(study.directory / "rewards_and_dynamics.png", dpi=160, bbox_inches="tight")
    print(table.pivot_table(index="K", columns="values", values=["total variation", "planning"]).round(3).to_string())
    print(table.pivot_table(index="K", columns="values", values="error of Q").round(3).to_string())
    return table


def one_network(study: Study, K: int, seed: int) -> list[dict[str, object]]:
    """Train one network, and return what its values, exact ones and those of its initialisation imply."""
    world = RandomWorld(RandomConfig(n_rewards=K, seed=seed))
    network = NetworkConfig(core="feedforward", hidden_size=128, encoder_sizes=(128,), layer_norm=False, n_rewards=K)
    config = PqnConfig(
        total_steps=study.total_steps, n_envs=32, n_steps=16, n_epochs=4, learning_rate=3e-3, final_learning_rate=1e-5, td_lambda=0.0,
        epsilon_end=1.0, max_gradient_norm=10.0, n_evaluations=1, n_evaluation_episodes=64, n_checkpoints=2,
    )  # fmt: skip
    train(world, network, config, study.directory / f"{K}-{seed}", seed)
    training = find_training(study.directory / f"{K}-{seed}")
    agents = {"trained": load_checkpoint(training.final)[0], "own init": load_checkpoint(training.checkpoints[0])[0]}
    record(None, world, study.directory / f"{K}-{seed}.wpr", CommonBehaviour(world), 200, seed=0).close()
    assert world.reward_functions is not None
    rewards, exact = world.reward_functions.numpy(), solve_rewards(world.tables, world.reward_functions, world.discount).numpy()
    with open_recording(study.directory / f"{K}-{seed}.wpr") as recording:
        stream = Stream(world, recording, Labels(world.factors))
        tables = {name: read_q_table(Examination(agent, stream, "common"), agent, world) for name, agent in agents.items()}
    tables["exact values"] = QTable.exact(exact)
    models = {
        name: (invert_bellman(each, rewards, world.discount), float(np.abs(each.mean - exact).mean())) for name, each in tables.items()
    }
    models["uniform"] = ExtractedModel(np.full(tuple(world.tables.transition.shape), 1 / 20), "uniform"), np.nan
    return [
        {
            "K": K,
            "seed": seed,
            "values": name,
            "total variation": float(model.total_variation(world.tables).mean()),
            "planning": model.plan(world.tables, world.discount).share,
            "error of Q": error,
        }
        for name, (model, error) in models.items()
    ]


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw the error of the law against the number of rewards."""
    figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for name, colour in COLOURS.items():
        curve = table[table["values"] == name].groupby("K")["total variation"]
        centre = curve.mean()
        reach = [t_interval(values.to_numpy()).upper - values.mean() for _, values in curve]
        ax.errorbar(centre.index, centre, yerr=reach, marker="o", markersize=4, color=colour, label=name, capsize=2)
    ax.set(xlabel="rewards K that the values are of", ylabel="total variation to the true law", ylim=(-0.02, 1))
    ax.legend(frameon=False, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
