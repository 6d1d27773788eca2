"""Transfer in four rooms: do successor features earn more, task after task, than reused policies and than Q-learning?

Twenty tasks follow each other, 20,000 steps each; in each of them the three classes of things are worth other amounts, drawn from
[-1, 1], and the goal 1 (Barreto et al. 2017, section 4.1, in tables). All learners meet the same tasks. Beside them stand a uniform
policy, the floor, and in the last task the optimal policy with as much exploration, the ceiling.

    python studies/sfql_four_rooms.py
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import tyro
from joblib import Parallel, delayed
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from worldprobe.agents import TABULAR, TabularConfig, learn_in_turn, seeded_generator
from worldprobe.probes import t_interval
from worldprobe.worlds import RoomObjects, categorical

COLOURS = {"q-learning": "#9a9a9a", "kept values": "#e69f00", "policy reuse": "#009e73", "successor features": "#0072b2"}
FLOOR, CEILING = "uniform policy", "optimal policy"


@dataclass(frozen=True)
class Study:
    """Settings."""

    directory: Path = Path("runs/sfql")
    """Where table and figure are kept."""
    n_runs: int = 10
    """Sequences of tasks, each learned once by every learner."""
    n_tasks: int = 20
    """Tasks of a sequence."""
    learner: TabularConfig = field(default_factory=TabularConfig)
    """Settings of the learners."""
    n_processes: int = 2
    """Learners at once."""


def main(study: Study) -> pd.DataFrame:
    """Learn, write sfql.csv and sfql.png, and print what every learner earned and whether the order holds."""
    world, weights = RoomObjects(), draw_tasks(study)
    results = Parallel(n_jobs=study.n_processes)(delayed(earn)(world, weights, method, study) for method in [*TABULAR, FLOOR, CEILING])
    table = pd.concat(results, ignore_index=True)
    study.directory.mkdir(parents=True, exist_ok=True)
    table.to_csv(study.directory / "sfql.csv", index=False, float_format="%.6f")
    draw(table).savefig(study.directory / "sfql.png", dpi=160, bbox_inches="tight")
    print(verdict(table))
    return table


def draw_tasks(study: Study) -> NDArray[np.float32]:
    """Draw what classes are worth; the goal pays 1 in every task: (n_runs, n_tasks, 4)."""
    random = np.random.default_rng(0)
    classes = random.uniform(-1, 1, size=(study.n_runs, study.n_tasks, RoomObjects().n_rewards - 1))
    return np.concatenate([classes, np.ones((study.n_runs, study.n_tasks, 1))], axis=2).astype(np.float32)


def earn(world: RoomObjects, weights: NDArray[np.float32], method: str, study: Study) -> pd.DataFrame:
    """Return the reward per step of every run and task."""
    torch.set_num_threads(1)
    n_runs, n_tasks, _ = weights.shape
    if method in TABULAR:
        reward = learn_in_turn(world, weights, method, study.learner, seed=0).reward
    elif method == FLOOR:
        reward = weights @ act_out(world, None, epsilon=1.0)
    else:
        reward = np.full((n_runs, n_tasks), np.nan)
        reward[:, -1] = [w @ act_out(world, world.solve(torch.from_numpy(w)), study.learner.epsilon) for w in weights[:, -1]]
    run, task = np.indices(reward.shape)
    return pd.DataFrame({"learner": method, "run": run.ravel(), "task": task.ravel(), "reward": reward.ravel()}).dropna()


def act_out(world: RoomObjects, values: Tensor | None, epsilon: float, n_envs: int = 256, n_steps: int = 1000) -> NDArray[np.float32]:
    """Return the features per step (4,) of the policy that is best by `values`, with uniform actions mixed in."""
    generator = seeded_generator(0, "acting out")
    driver, total = world.driver(n_envs, generator), torch.zeros(world.n_rewards)
    uniform = torch.full((n_envs, world.n_actions), 1 / world.n_actions)
    for _ in range(n_steps):
        state, action = driver.state, categorical(uniform, generator)
        if values is not None:
            explores = torch.rand(n_envs, generator=generator) < epsilon
            action = torch.where(explores, action, values[state["objects"], state["cell"]].argmax(1))
        step = driver.step(action)
        assert step.rewards is not None
        total += step.rewards.mean(0)
    features: NDArray[np.float32] = (total / n_steps).numpy()
    return features


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw the mean reward in every task, and what it adds up to with intervals over runs."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    steps = 100
    for name, colour in COLOURS.items():
        runs = table[table.learner == name].pivot(index="run", columns="task", values="reward")
        axes[0].plot(runs.columns + 1, steps * runs.mean(), color=colour, label=name, linewidth=1.8)
        summed = runs.cumsum(axis=1)
        centre = summed.mean()
        reach = np.array([t_interval(summed[task].to_numpy()).upper - centre[task] for task in summed])
        axes[1].plot(centre.index + 1, centre, color=colour, label=name, linewidth=1.8)
        axes[1].fill_between(centre.index + 1, centre - reach, centre + reach, color=colour, alpha=0.18, linewidth=0)
    floor, ceiling = (steps * table[table.learner == name].groupby("task").reward.mean() for name in (FLOOR, CEILING))
    axes[0].plot(floor.index + 1, floor, color="#222222", linestyle=":", label=FLOOR)
    axes[0].plot(ceiling.index + 1, ceiling, color="#222222", marker="*", markersize=9, linestyle="", label=CEILING)
    axes[0].set(ylabel=f"reward per {steps} steps", ylim=(None, 1.35 * max(ceiling.max(), axes[0].get_ylim()[1])))
    axes[1].set(ylabel="reward so far, per step of a task")
    axes[0].legend(frameon=False, fontsize="small", ncols=2, loc="upper left")
    for ax in axes:
        ax.set(xlabel="task")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def verdict(table: pd.DataFrame) -> str:
    """Say what every learner earned after the first task, and whether successor features earn most, in every run."""
    later = table[(table.task > 0) & (table.learner != CEILING)]
    earned = later.groupby(["learner", "run"]).reward.mean().unstack(0) * 100
    lines = ["reward per 100 steps, tasks after the first (mean and 95 % interval over runs)"]
    for name in [*TABULAR, FLOOR]:
        interval = t_interval(earned[name].to_numpy())
        lines.append(f"  {name:20s} {earned[name].mean():6.3f} [{interval.lower:.3f}, {interval.upper:.3f}]")
    for less in [name for name in TABULAR if name != "successor features"]:
        gain = (earned["successor features"] - earned[less]).to_numpy()
        interval = t_interval(gain)
        lines.append(
            f"successor features - {less}: {gain.mean():+.3f} [{interval.lower:+.3f}, {interval.upper:+.3f}], least {gain.min():+.3f}"
        )
    gain = (earned["policy reuse"] - earned["q-learning"]).to_numpy()
    interval = t_interval(gain)
    lines.append(f"policy reuse - q-learning: {gain.mean():+.3f} [{interval.lower:+.3f}, {interval.upper:+.3f}], least {gain.min():+.3f}")
    last = table[table.task == table.task.max()].pivot(index="run", columns="learner", values="reward")
    shares = ((last.sub(last[FLOOR], axis=0)).div(last[CEILING] - last[FLOOR], axis=0)).mean()
    lines += ["share of the way from a uniform policy to the optimal one with the same exploration, in the last task, while learning"]
    return "\n".join(lines + [f"  {name:20s} {shares[name]:.2f}" for name in TABULAR])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
