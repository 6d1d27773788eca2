"""R7: one reward does not say what the world does, many do.

In random Markov decision processes (20 states, 5 actions, 5 successors each, gamma .9, dense Gaussian rewards) the law is inferred from the
exact Q* of K reward functions: `invert_bellman`, whose answer lies in the middle of all laws that fit, beside non-negative least squares,
whose answer is a corner of them, and the uniform law. Beside them stands what planning in the inferred law earns in the true one: for the
first of the K rewards as much as can be had, whatever the law (they are value equivalent), and for a reward that was not among them. A
second table adds Gaussian noise to Q*, in units of its standard deviation over states and actions, and counts how many of the
entries their 90 % intervals cover.

    python studies/r7_bellman_inversion.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import tyro
from numpy.typing import NDArray
from scipy.optimize import nnls

from worldprobe.analysis import ExtractedModel, QTable, invert_bellman
from worldprobe.worlds import RandomConfig, RandomWorld, solve_rewards

Floats = NDArray[np.float64]

SUM_WEIGHT = 1e4
"""Weight of the equation that says that probabilities sum to one, in non-negative least squares."""


@dataclass(frozen=True)
class Study:
    """Settings of R7."""

    directory: Path = Path("runs/r7")
    """Where tables and figure are kept."""
    n_worlds: int = 3
    """Random worlds; seeds 0, 1, ..."""
    counts: tuple[int, ...] = (1, 2, 5, 10, 15, 20, 30)
    """Reward functions K."""
    noises: tuple[float, ...] = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
    """Standard deviation of the noise of Q, in units of that of Q itself."""
    n_draws: int = 40
    """Noisy tables that the intervals are made of."""


def main(study: Study) -> pd.DataFrame:
    """Invert, write r7.csv, r7-noise.csv and r7.png, and print both tables."""
    study.directory.mkdir(parents=True, exist_ok=True)
    worlds = [RandomWorld(RandomConfig(n_rewards=max(study.counts) + 1, seed=seed)) for seed in range(study.n_worlds)]
    exact = pd.DataFrame([row for world in worlds for row in without_noise(study, world)])
    noisy = pd.DataFrame([row for world in worlds for row in with_noise(study, world)])
    exact.to_csv(study.directory / "r7.csv", index=False, float_format="%.6f")
    noisy.to_csv(study.directory / "r7-noise.csv", index=False, float_format="%.6f")
    draw(exact, noisy).savefig(study.directory / "r7.png", dpi=160, bbox_inches="tight")
    print(exact.drop(columns="world").groupby("K").mean().round(4).to_string())
    print(noisy.drop(columns="world").groupby(["noise", "K"]).mean().round(4).to_string())
    return exact


def without_noise(study: Study, world: RandomWorld) -> list[dict[str, float]]:
    """Return the errors of every way to read the law from exact Q*."""
    q, rewards = tables_of(world)
    law, rows = world.tables.transition.numpy(), []
    uniform = ExtractedModel(np.full_like(law, 1 / len(law[0])), "uniform")
    for K in study.counts:
        model = invert_bellman(QTable.exact(q[:K]), rewards[:K], world.discount)
        assert model.free_dimensions is not None
        errors = {"middle": model, "corner": corner(q[:K], rewards[:K], world.discount), "uniform": uniform}
        found = {name: float(one.total_variation(world.tables).mean()) for name, one in errors.items()}
        rows.append({"world": world.config.seed, "K": K, **found, "free": float(model.free_dimensions.mean()), **planning(model, world)})
    return rows


def with_noise(study: Study, world: RandomWorld) -> list[dict[str, float]]:
    """Return error, planning and coverage where Q* is known with noise."""
    q, rewards = tables_of(world)
    law, rows = world.tables.transition.numpy(), []
    for noise in study.noises:
        scale = noise * float(q.std())
        seen = q + scale * np.random.default_rng(world.config.seed).normal(size=q.shape)
        for K in study.counts:
            table = QTable(seen[:K], np.full_like(seen[:K], scale), np.ones((K, q.shape[1]), np.int64))
            model = invert_bellman(table, rewards[:K], world.discount, n_draws=study.n_draws, level=0.9)
            error = float(model.total_variation(world.tables).mean())
            assert model.lower is not None
            assert model.upper is not None
            within = (model.lower - 1e-6 <= law) & (law <= model.upper + 1e-6)
            found = {"noise": noise, "K": K, "error": error, "covered": float(within.mean())}
            rows.append({"world": world.config.seed, **found, **planning(model, world)})
    return rows


def planning(model: ExtractedModel, world: RandomWorld) -> dict[str, float]:
    """Return the share of the optimal return that planning in a model earns, for the first reward and for one that was not seen."""
    unseen = replace(world.tables, reward=torch.from_numpy(tables_of(world)[1][-1].copy()))
    tasks = {"planning, seen reward": world.tables, "planning, new reward": unseen}
    return {name: model.plan(tables, world.discount).share for name, tables in tasks.items()}


def tables_of(world: RandomWorld) -> tuple[Floats, Floats]:
    """Return Q* (K, S, A) and the rewards (K, A, S, S)."""
    rewards = world.reward_functions
    assert rewards is not None
    return solve_rewards(world.tables, rewards, world.discount).numpy(), rewards.numpy()


def corner(q: Floats, rewards: Floats, discount: float) -> ExtractedModel:
    """Return the law by non-negative least squares, one state and action at a time."""
    values, (A, S) = discount * q.max(axis=-1), rewards.shape[1:3]
    law = np.empty((A, S, S))
    for action in range(A):
        for state in range(S):
            equations = np.concatenate([rewards[:, action, state] + values, np.full((1, S), SUM_WEIGHT)])
            law[action, state] = nnls(equations, np.append(q[:, state, action], SUM_WEIGHT))[0]
    return ExtractedModel(law, "non-negative least squares")


def draw(exact: pd.DataFrame, noisy: pd.DataFrame) -> plt.Figure:
    """Draw the error against the number of rewards, without and with noise, and what planning is worth."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    long = exact.melt(["world", "K"], ["middle", "corner", "uniform"], var_name="law", value_name="total variation")
    sns.lineplot(long, x="K", y="total variation", hue="law", marker="o", ax=axes[0])
    levels = noisy.assign(noise=noisy.noise.map("{:g}".format))
    sns.lineplot(levels, x="K", y="error", hue="noise", marker="o", palette="viridis", ax=axes[1])
    sns.lineplot(levels, x="K", y="planning, new reward", hue="noise", marker="o", palette="viridis", legend=False, ax=axes[2])
    axes[0].set(title="exact Q*", ylim=(-0.02, 1), ylabel="mean total variation to the true law")
    axes[1].set(title="noisy Q*", ylim=(-0.02, 1), ylabel="mean total variation to the true law")
    axes[2].set(title="planning for a new reward", ylim=(None, 1.02), ylabel="share of the optimal return")
    for ax in axes:
        ax.set_xlabel("reward functions K")
    axes[1].legend(title="noise / sd of Q", fontsize=8)
    sns.despine(figure)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
