"""R12: compression and distinction, on beliefs (Vafa et al. 2024).

In a T-Maze, at the crossroad and along the way, pairs of histories are compared by the Q-values that agents have there: pairs whose exact
beliefs are equal, and pairs whose beliefs have no optimal action in common. An agent that is coherent has the first closer than the
second. A Q-learner (GRU of 32 units) stands beside its own initialisation, and beside the planted agent that knows the belief.

    python studies/r12_coherence.py
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import tyro

from worldprobe.activations import CommonBehaviour, open_recording, record, replay
from worldprobe.agents import Agent, BeliefAgent, NetworkConfig, PqnConfig, find_training, load_checkpoint, train_pqn
from worldprobe.analysis import measure_coherence, optimal_actions
from worldprobe.worlds import TMaze, solve_pomdp


@dataclass(frozen=True)
class Study:
    """Settings of R12."""

    directory: Path = Path("runs/r12")
    """Where networks, recording, table and figure are kept."""
    length: int = 10
    """Of the corridor."""
    n_seeds: int = 3
    """Networks."""
    total_steps: int = 400_000
    """Environment steps of each training."""
    n_episodes: int = 1500
    """Episodes of the common streams."""


def main(study: Study) -> pd.DataFrame:
    """Train, compare, write r12.csv and r12.png, and print the table."""
    world, channels = TMaze(length=study.length), frozenset({"observation", "action"})
    config, network = PqnConfig(total_steps=study.total_steps), NetworkConfig(core="gru", hidden_size=32)
    agents: dict[str, Agent] = {"belief": BeliefAgent(world, channels)}
    for seed in range(study.n_seeds):
        train_pqn(world, network, config, study.directory / f"own-{seed}", seed)
        training = find_training(study.directory / f"own-{seed}")
        agents[f"untrained {seed}"] = load_checkpoint(training.checkpoints[0])[0]
        agents[f"trained {seed}"] = load_checkpoint(training.final)[0]
    record(None, world, study.directory / "common.wpr", CommonBehaviour(world), study.n_episodes, seed=0, n_envs=128).close()
    rows = []
    with open_recording(study.directory / "common.wpr") as recording:
        beliefs, groups = recording["belief/state"][:].astype(np.float64), np.asarray(recording.groups, np.int64)
        values = solve_pomdp(world, channels).policy.q_values({"state": torch.from_numpy(beliefs)}).numpy()
        optimal, crossroad = optimal_actions(values), recording["observation"][:].argmax(axis=1) == world.observation_size - 1
        for name, agent in agents.items():
            q = replay(agent, recording, ["q"])["q"].astype(np.float64)
            for place, chosen in (("crossroad", crossroad), ("everywhere", np.ones(len(q), np.bool_))):
                coherence = measure_coherence(q[chosen], beliefs[chosen], optimal[chosen], groups[chosen])
                rows.append({"agent": name, "place": place, **asdict(coherence)})
    table = pd.DataFrame(rows)
    table.to_csv(study.directory / "r12.csv", index=False, float_format="%.6f")
    draw(table).savefig(study.directory / "r12.png", dpi=160, bbox_inches="tight")
    print(table.drop(columns=["reason", "blocks"]).round(3).to_string(index=False))
    return table


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw the area under the curve of every agent, at the crossroad and everywhere."""
    figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
    for offset, (place, rows) in zip((-0.1, 0.1), table.groupby("place"), strict=True):
        errors = np.abs(rows[["lower", "upper"]].T.to_numpy() - rows.auc.to_numpy())
        ax.errorbar(np.arange(len(rows)) + offset, rows.auc, yerr=errors, fmt="o", label=place)
    ax.set_xticks(range(table.agent.nunique()), table.agent.unique(), rotation=30, ha="right")
    ax.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    ax.set(ylabel="equal histories are closer (AUC)", ylim=(0.4, 1.05))
    ax.legend(title=None)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
