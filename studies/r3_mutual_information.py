"""R3: the mutual information of hidden state and belief, where its exact value is known.

Lambrechts, Bolland & Ernst 2022 measure it by MINE on one random step of each trajectory. In the T-Maze without noise an optimal agent's
belief is one of 2 (L + 1) equally likely ones, so no estimate may exceed ln 2 + ln(L + 1) nats by more than its noise. Three hidden states
are measured at each length: the belief itself; the belief times a random sign, beside the sign, in which nothing is linear; and the
belief of another episode, in which there is nothing.

    python studies/r3_mutual_information.py
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

from worldprobe.agents import BeliefAgent, agent_inputs
from worldprobe.probes import MINE
from worldprobe.worlds import TMaze

CHANNELS = frozenset({"observation", "action"})
ARMS = ("belief", "belief x random sign", "another episode's belief")


@dataclass(frozen=True)
class Study:
    """Settings of R3."""

    directory: Path = Path("runs/r3")
    """Where table and figure are kept."""
    lengths: tuple[int, ...] = (10, 20, 50)
    """Corridors."""
    n_pairs: int = 10_000
    """Trajectories that MINE is fitted to, and as many that it is told afterwards."""
    n_epochs: int = 100
    """Of MINE."""
    seed: int = 0
    """Of episodes, steps and networks."""


def trajectories(length: int, n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the hidden state of the belief agent and the exact belief (n, n_states), at one random step of each of n episodes."""
    world, generator = TMaze(length, stochasticity=0.0), torch.Generator().manual_seed(seed)
    agent, belief_filter, driver = BeliefAgent(world, CHANNELS), world.belief_filter(CHANNELS), world.driver(n, generator)
    chosen = torch.randint(length + 1, (n,), generator=generator)
    state, action, reward = agent.initial_state(n), torch.full((n,), -1), torch.zeros(n)
    observation, exact = driver.observation, belief_filter.start(driver.observation, generator)
    hidden, beliefs = (torch.zeros(n, agent.sites["core.h"]) for _ in range(2))
    for t in range(length + 1):
        inputs = agent_inputs(observation, action, reward, CHANNELS, world.n_actions)
        q_values, state = agent.step(inputs, state, torch.full((n,), t == 0))
        hidden[chosen == t], beliefs[chosen == t] = agent.hidden(state)[chosen == t], exact["state"][chosen == t].float()
        action = q_values.argmax(1)
        if t < length:
            step = driver.step(action)
            observation, reward = step.observation, step.reward
            exact = belief_filter.update(exact, action, reward, observation, torch.zeros(n, dtype=torch.bool), generator)
    return hidden.numpy(), beliefs.numpy()


def measure(study: Study, length: int) -> list[dict[str, object]]:
    """Estimate the information of each hidden state about the belief."""
    hidden, beliefs = trajectories(length, 2 * study.n_pairs, study.seed)
    generator = np.random.default_rng(study.seed)
    sign = generator.choice(np.float32([-1, 1]), size=(len(hidden), 1))
    plain = np.concatenate([hidden, np.ones_like(sign)], axis=1)
    X = np.stack([plain, plain * sign, plain])
    Y = np.stack([beliefs, beliefs, generator.permutation(beliefs)])
    n = study.n_pairs
    mine = MINE(n_epochs=study.n_epochs, random_state=study.seed).fit(X[:, :n], Y[:, :n])
    estimates = np.asarray(mine.estimate(X[:, n:], Y[:, n:]))
    ceiling = float(np.log(2) + np.log(length + 1))
    found = zip(ARMS, estimates, (ceiling, ceiling, 0.0), strict=True)
    return [{"length": length, "hidden": arm, "nats": nats, "exact": exact} for arm, nats, exact in found]


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw the estimates over the length, with the exact values as lines."""
    figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
    sns.scatterplot(table, x="length", y="nats", hue="hidden", style="hidden", ax=ax, s=60)
    lengths = np.arange(5, 56)
    ax.plot(lengths, np.log(2) + np.log(lengths + 1), color="black", linewidth=0.8, label="ln 2 + ln(L + 1)")
    ax.axhline(0, color="black", linewidth=0.8, linestyle=":")
    ax.set(xlabel="corridor length L", ylabel="mutual information with the belief (nats)", ylim=(-0.3, 5.4))
    ax.legend(title=None, loc="center right", fontsize=8)
    sns.despine(figure)
    return figure


def main(study: Study) -> pd.DataFrame:
    """Estimate, write r3.csv and r3.png, and print the estimates beside the exact values."""
    study.directory.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([row for length in study.lengths for row in measure(study, length)])
    table["holds"] = (table.nats <= table.exact + 0.05) & (table.nats >= 0.95 * table.exact - 0.05)
    table.to_csv(study.directory / "r3.csv", index=False, float_format="%.6f")
    draw(table).savefig(study.directory / "r3.png", dpi=160, bbox_inches="tight")
    print(table.round(3).to_string(index=False))
    return table


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
