"""R11: the length of the online code tells apart what accuracy does not.

A Q-learner (GRU of 32 units) in the T-Maze of R1, and its own initialisation, on the same common streams. The goal, shown at the first
step only, is read from both, and so are control labels: one label for each type of history, drawn from the goal's frequencies (Hewitt &
Liang 2019). Beside the accuracies stand the online codes with the blocks of Voita & Titov 2020: that of the goal is shorter from the
trained network, in pairs of episodes, and that of control labels is as long as the uniform code. In a world without noise in its
observations (`--world tmaze`) it is not quite as long: episodes begin alike there, and their first steps are learned by heart.

    python studies/r11_codelength.py
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
from numpy.typing import NDArray

from worldprobe.activations import CommonBehaviour, Recording, open_recording, received_inputs, record, replay
from worldprobe.agents import NetworkConfig, PqnConfig, find_training, load_checkpoint, train_pqn
from worldprobe.probes import (
    Codelength,
    LogisticProbe,
    control_labels,
    estimate_selectivity,
    group_folds,
    history_types,
    online_codelength,
    sum_interval,
)
from worldprobe.worlds import make_world

Integers = NDArray[np.int64]

TYPES_PER_UNIT = 20
PROBE = LogisticProbe(alphas=(1e-3,))
"""One penalty for all codes, so that they differ in nothing but what is coded."""


@dataclass(frozen=True)
class Study:
    """Settings of R11."""

    directory: Path = Path("runs/r11")
    """Where networks, recording, table and figure are kept."""
    world: str = "tmaze-irrelevant"
    """Where they live: R1's T-Maze beside two irrelevant random walks."""
    n_seeds: int = 2
    """Networks."""
    total_steps: int = 600_000
    """Environment steps of each training."""
    n_episodes: int = 800
    """Episodes of the common streams."""


def main(study: Study) -> pd.DataFrame:
    """Train, read, write r11.csv and r11.png, and print codes beside accuracies."""
    world, config = make_world(study.world), PqnConfig(total_steps=study.total_steps, epsilon_end=0.2)
    for seed in range(study.n_seeds):
        train_pqn(world, NetworkConfig(core="gru", hidden_size=32), config, study.directory / f"own-{seed}", seed)
    record(None, world, study.directory / "common.wpr", CommonBehaviour(world), study.n_episodes, seed=0, n_envs=128).close()
    with open_recording(study.directory / "common.wpr") as recording:
        measured = [measure(study, recording, seed) for seed in range(study.n_seeds)]
    table = pd.DataFrame([row for rows, _ in measured for row in rows])
    table.to_csv(study.directory / "r11.csv", index=False, float_format="%.6f")
    draw(table).savefig(study.directory / "r11.png", dpi=160, bbox_inches="tight")
    print(table.round(3).to_string(index=False))
    print("\n".join(line for _, lines in measured for line in lines))
    return table


def measure(study: Study, recording: Recording, seed: int) -> tuple[list[dict[str, object]], list[str]]:
    """Read one network and its initialisation; return rows of the table, and what the pairs of codes say."""
    groups, goal = np.asarray(recording.groups, np.int64), np.asarray(recording["factor/goal"][:], np.int64)
    types = history_types(received_inputs(recording), recording["t"][:], TYPES_PER_UNIT * 32, effective=True)
    if types is None:
        raise ValueError("no window of inputs has 640 types; record more episodes")
    control, training = control_labels(goal, types, random_state=seed), find_training(study.directory / f"own-{seed}")
    rows, codes = [], {}
    for arm, path in (("untrained", training.checkpoints[0]), ("trained", training.final)):
        hidden = replay(load_checkpoint(path)[0], recording)["core.h"]
        accuracy = estimate_selectivity(hidden, goal, control, groups, group_folds(groups, 3), PROBE)
        for task, labels, share in (("goal", goal, accuracy.task), ("control", control, accuracy.control)):
            codes[arm, task] = online_codelength(hidden, labels, groups, PROBE)
            rows.append({"seed": seed, "arm": arm, "task": task, "accuracy": share, **summary(codes[arm, task], len(goal))})
    saved = sum_interval(codes["untrained", "goal"].per_group - codes["trained", "goal"].per_group, alternative="greater")
    gain, bound = saved.estimate / len(goal), saved.lower / len(goal)
    line = f"seed {seed}: bits per label that the trained network saves: {gain:.3f} (95 % from {bound:.3f})"
    worst = max(abs(1 - code.compression) for (_, task), code in codes.items() if task == "control")
    return rows, [line + " (claim: above 0)", f"seed {seed}: control codes are within {worst:.3f} of the uniform code (claim: ~ 0)"]


def summary(code: Codelength, n_labels: int) -> dict[str, float]:
    """Return bits per label and the share of the uniform code."""
    return {"bits per label": code.total / n_labels, "share of the uniform code": code.total / code.uniform}


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw accuracy and codelength of every arm and task."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for ax, column in zip(axes, ("accuracy", "share of the uniform code"), strict=True):
        sns.stripplot(table, x="task", y=column, hue="arm", dodge=True, size=8, ax=ax)
        ax.set(xlabel="", ylim=(-0.05, 1.1))
        ax.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
        ax.legend(title=None, loc="upper center", bbox_to_anchor=(0.5, 0.5))
    sns.despine(figure)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
