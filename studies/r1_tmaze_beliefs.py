"""R1: does Q-learning make the relevant belief decodable, and is it the reward that does it?

T-Maze (L = 10, lambda = .2) with two irrelevant random walks; GRU of 32 units; the exact belief is read by ridge from the
hidden state, on the same common streams for every arm: trained on reward, trained on another environment's rewards (yoked),
the same initialisations untrained, and windows of the last five observations and inputs. Lambrechts, Bolland & Ernst 2022 ask the same with
mutual information.

    python studies/r1_tmaze_beliefs.py --n-seeds 3
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
from joblib import Parallel, delayed
from numpy.typing import NDArray

from worldprobe.activations import CommonBehaviour, open_recording, record, replay
from worldprobe.agents import NetworkConfig, PqnConfig, evaluate_return, find_training, load_checkpoint, train_pqn
from worldprobe.analysis import History, Labels, Stream
from worldprobe.probes import RidgeProbe
from worldprobe.worlds import make_world, solve_pomdp

WORLD = "tmaze-irrelevant"
ARMS = ("5 observations", "5 inputs", "untrained", "yoked", "trained")
NEAR = 2
"""Rows within so many steps of the crossroad are "near" it."""


@dataclass(frozen=True)
class Study:
    """Settings of R1."""

    directory: Path = Path("runs/r1")
    """Where networks, recording, table and figure are kept."""
    n_seeds: int = 3
    """Networks of each arm."""
    total_steps: int = 1_000_000
    """Environment steps of each training."""
    n_episodes: int = 1500
    """Episodes of the common streams."""
    n_processes: int = 2
    """Networks trained at once."""


def main(study: Study) -> pd.DataFrame:
    """Train the arms, read the beliefs, write r1.csv and r1.png, and print what the arms reached."""
    jobs = [(arm, seed) for arm in ("own", "yoked") for seed in range(study.n_seeds)]
    Parallel(n_jobs=study.n_processes)(delayed(train_arm)(study, arm, seed) for arm, seed in jobs)
    stream = common_stream(study)
    table = pd.DataFrame([row for arm, seed in jobs for row in read_arm(study, stream, arm, seed)] + read_windows(stream))
    study.directory.mkdir(parents=True, exist_ok=True)
    table.to_csv(study.directory / "r1.csv", index=False, float_format="%.6f")
    draw(table).savefig(study.directory / "r1.png", dpi=160, bbox_inches="tight")
    print(table.groupby("arm", sort=False).agg(["min", "mean", "max"]).drop(columns="seed").round(3).T.to_string())
    print(verdict(table))
    return table


def train_arm(study: Study, arm: str, seed: int) -> None:
    """Train one network of an arm."""
    config = PqnConfig(total_steps=study.total_steps, epsilon_end=0.2, reward_source="yoked" if arm == "yoked" else "own")
    train_pqn(make_world(WORLD), NetworkConfig(core="gru", hidden_size=32), config, study.directory / f"{arm}-{seed}", seed)


def common_stream(study: Study) -> Stream:
    """Record the common streams, once for all arms."""
    world = make_world(WORLD)
    path = study.directory / "common.wpr"
    record(None, world, path, CommonBehaviour(world), study.n_episodes, seed=0, n_envs=128).close()
    return Stream(world, open_recording(path), Labels(world.factors))


def read_arm(study: Study, stream: Stream, arm: str, seed: int) -> list[dict[str, object]]:
    """Read the trained network of an arm and, once per seed, its initialisation."""
    training = find_training(study.directory / f"{arm}-{seed}")
    rows = []
    checkpoints = {arm if arm == "yoked" else "trained": training.final, **({"untrained": training.checkpoints[0]} if arm == "own" else {})}
    for name, path in checkpoints.items():
        network, _ = load_checkpoint(path)
        features = replay(network, stream.recording)["core.h"]
        returned = evaluate_return(network, stream.world, 1000, torch.Generator().manual_seed(0))
        rows.append({"arm": name, "seed": seed, **scores(stream, features), "return": returned.mean_return})
    return rows


def read_windows(stream: Stream) -> list[dict[str, object]]:
    """Read the last five observations, and the last five inputs (with the actions between them)."""
    width, n_seen = stream.received.shape[1], stream.world.observation_size
    inputs = History(stream, window=4).rows(0)[:, : 5 * width].reshape(-1, 5, width)
    windows = {"5 observations": inputs[:, :, :n_seen], "5 inputs": inputs}
    return [
        {"arm": name, "seed": 0, **scores(stream, window.reshape(len(window), -1)), "return": np.nan} for name, window in windows.items()
    ]


def scores(stream: Stream, features: NDArray[np.float32]) -> dict[str, float]:
    """R^2 of the belief of the state, of the walks' filter means, and of the goal bit near the crossroad, on test episodes."""
    recording = stream.recording
    fit, test = np.concatenate([recording.split("train"), recording.split("validation")]), recording.split("test")
    targets = {"belief of the state": recording["belief/state"][:], "belief of the walks": recording["belief/walk_mean"][:]}
    read = {name: _score(features, target, fit, test, stream.groups) for name, target in targets.items()}
    position, corridor = recording["factor/position"][:], stream.world.factor("position").size - 3
    near = test[(position[test] >= corridor - NEAR) & (position[test] <= corridor)]
    goal = recording["factor/goal"][:].astype(np.float64)[:, None]
    return read | {"goal near the crossroad": _score(features, goal, fit, near, stream.groups)}


def _score(
    features: NDArray[np.float32], target: NDArray[np.float64], fit: NDArray[np.int64], test: NDArray[np.int64], groups: NDArray[np.int64]
) -> float:
    """Held-out R^2 over all columns together."""
    probe = RidgeProbe().fit(features[fit], target[fit], groups=groups[fit])
    error, spread = target[test] - probe.predict(features[test]).reshape(target[test].shape), target[test] - target[fit].mean(0)
    return float(1 - np.square(error).sum() / np.square(spread).sum())


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw one point per network and arm."""
    columns = ["belief of the state", "belief of the walks", "goal near the crossroad"]
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
    for ax, column in zip(axes, columns, strict=True):
        sns.stripplot(table, x="arm", y=column, order=ARMS, hue="arm", ax=ax, legend=False, size=7)
        ax.set(title=column, xlabel="", ylabel="held-out R² from the hidden state" if column == columns[0] else "", ylim=(-0.05, 1.05))
        ax.tick_params(axis="x", rotation=25)
    return figure


def verdict(table: pd.DataFrame) -> str:
    """Say whether the published ordering holds, seed by seed, and what the yoked arm says."""
    state = table.set_index(["arm", "seed"])["belief of the state"]
    gains = state["trained"] - state["untrained"]
    best = solve_pomdp(make_world(WORLD), frozenset({"observation", "action"}))
    lines = [
        f"trained - untrained, every seed: {', '.join(f'{gain:+.3f}' for gain in gains)} (claim: above +0.2)",
        *(
            f"trained - last {window}, every seed: {', '.join(f'{value - state[window].iloc[0]:+.3f}' for value in state['trained'])}"
            for window in ARMS[:2]
        ),
        f"trained - yoked, means: {state['trained'].mean() - state['yoked'].mean():+.3f}",
        f"return of the trained networks: {table[table.arm == 'trained']['return'].min():.2f} at least, optimum {best.undiscounted:.2f}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
