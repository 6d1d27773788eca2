"""R4: does a network that only learns to expect reward come to hold the belief, and the more of it the larger it is?

Trace conditioning with a tenth of the rewards left out (Hennig et al. 2023, task 2): GRUs of 2, 10 and 50 units learn values by
TD(0). The exact belief over the hidden states is read from them by least squares, fitted to one stream of a thousand trials and
scored on another. Beside them stand the same networks before training, echo-state networks (their recurrent matrices scaled to several
gains, the best of which counts), and windows of the last inputs.

    python studies/r4_trace_conditioning.py
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

from worldprobe.activations import CommonBehaviour, Recording, open_recording, record, replay
from worldprobe.agents import NetworkConfig, PqnConfig, echo_state_twins, find_training, load_checkpoint, train_pqn
from worldprobe.analysis import History, Labels, Stream
from worldprobe.probes import t_interval
from worldprobe.worlds import TraceConditioning, TraceConditioningConfig

WORLD = TraceConditioning(TraceConditioningConfig(omission=0.1, time_limit=540))
"""Twenty trials to an episode."""
TRIALS_PER_EPISODE = 20
GAINS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1)
WINDOWS = (1, 5, 20)
NOISE = 0.05
"""Standard deviation of what is added to standardised units before they are read."""


@dataclass(frozen=True)
class Study:
    """Settings of R4."""

    directory: Path = Path("runs/r4")
    """Where networks, streams, table and figure are kept."""
    hidden_sizes: tuple[int, ...] = (2, 10, 50)
    """Units of the GRUs."""
    n_seeds: int = 3
    """Networks of each size."""
    n_updates: int = 1280
    """Steps of Adam's kind on 12 episodes each: 30 passes over 10,000 trials."""
    n_epochs: int = 4
    """Of these, on the same episodes."""
    n_trials: int = 1000
    """Of each stream."""
    n_processes: int = 2
    """Networks at once."""


def main(study: Study) -> pd.DataFrame:
    """Train, read, write r4.csv and r4.png, and print the scores and whether the claims hold."""
    jobs = [(size, seed) for size in study.hidden_sizes for seed in range(study.n_seeds)]
    Parallel(n_jobs=study.n_processes)(delayed(learn)(study, size, seed) for size, seed in jobs)
    streams = [make_stream(study, seed) for seed in (0, 1)]
    table = pd.DataFrame([row for size, seed in jobs for row in read_network(study, streams, size, seed)] + read_windows(streams))
    table.to_csv(study.directory / "r4.csv", index=False, float_format="%.6f")
    draw(table).savefig(study.directory / "r4.png", dpi=160, bbox_inches="tight")
    print(table.pivot_table(index="units", columns="arm", values="R2", aggfunc=["mean", "min", "max"]).round(3).to_string())
    print(verdict(table, study.hidden_sizes))
    return table


def learn(study: Study, size: int, seed: int) -> None:
    """Train one network to expect rewards."""
    n_envs = 12
    config = PqnConfig(
        total_steps=n_envs * WORLD.time_limit * study.n_updates // study.n_epochs, n_envs=n_envs, n_steps=WORLD.time_limit,
        n_epochs=study.n_epochs, n_minibatches=1, learning_rate=3e-3, final_learning_rate=3e-4, td_lambda=0.0, n_evaluations=1,
        n_evaluation_episodes=12, n_checkpoints=2,
    )  # fmt: skip
    network = NetworkConfig(core="gru", hidden_size=size, encoder_sizes=(), layer_norm=False)
    train_pqn(WORLD, network, config, study.directory / f"{size}-{seed}", seed)


def make_stream(study: Study, seed: int) -> Recording:
    """Record trials with their exact beliefs; there is nothing to choose in them."""
    path = study.directory / f"stream-{seed}.wpr"
    record(None, WORLD, path, CommonBehaviour(WORLD), study.n_trials // TRIALS_PER_EPISODE, seed=seed).close()
    return open_recording(path)


def read_network(study: Study, streams: list[Recording], size: int, seed: int) -> list[dict[str, object]]:
    """Read the belief from a trained network, from itself before training, and from echo-state networks of its size."""
    training = find_training(study.directory / f"{size}-{seed}")
    trained, untrained = (load_checkpoint(path)[0] for path in (training.final, training.checkpoints[0]))
    agents = {"trained": trained, "untrained": untrained}
    arms = {name: score(*(replay(agent, stream)["core.h"] for stream in streams), streams) for name, agent in agents.items()}
    twins = echo_state_twins(WORLD, trained.config, seed, GAINS)
    arms["echo state"] = max(score(*(replay(twin, stream)["core.h"] for stream in streams), streams) for twin in twins)
    return [{"arm": name, "units": size, "seed": seed, "R2": value} for name, value in arms.items()]


def read_windows(streams: list[Recording]) -> list[dict[str, object]]:
    """Read the belief from the last inputs."""
    rows: list[dict[str, object]] = []
    for width in WINDOWS:
        seen = []
        for recording in streams:
            stream = Stream(WORLD, recording, Labels(WORLD.factors))
            seen.append(History(stream, window=width - 1).rows(0)[:, : width * stream.received.shape[1]])
        rows.append({"arm": f"last {width}", "units": 0, "seed": 0, "R2": score(*seen, streams)})
    return rows


def score(fitted: NDArray[np.float32], scored: NDArray[np.float32], streams: list[Recording]) -> float:
    """Return R^2 of the belief, over all its dimensions together, on the second stream, by least squares on the first."""
    noise = np.random.default_rng(0)
    mean, spread = fitted.mean(0), fitted.std(0)
    kept = spread > 0
    X, Z = (
        np.column_stack(
            [(each - mean)[:, kept] / spread[kept] + NOISE * noise.standard_normal((len(each), kept.sum())), np.ones(len(each))]
        )
        for each in (fitted, scored)
    )
    known, truth = (stream["belief/state"][:] for stream in streams)
    weights, *_ = np.linalg.lstsq(X, known, rcond=None)
    return float(1 - np.square(truth - Z @ weights).sum() / np.square(truth - truth.mean(0)).sum())


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw the scores against the number of units, and the windows as lines."""
    figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
    arms = ["trained", "untrained", "echo state"]
    sns.stripplot(table[table.arm.isin(arms)], x="units", y="R2", hue="arm", hue_order=arms, dodge=True, ax=ax, size=5)
    for _, window in table[table.arm.str.startswith("last")].iterrows():
        ax.axhline(window.R2, color="#9a9a9a", linestyle=":", linewidth=1)
        ax.text(
            -0.45,
            window.R2 + 0.01,
            f"{window.arm} input{'s' * (window.arm != 'last 1')}".replace("last 1 ", "last "),
            fontsize=7,
            color="#555555",
        )
    ax.set(xlabel="units", ylabel="R² of the belief", ylim=(0, 1))
    ax.legend(title=None, frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(0.02, 0.75))
    sns.despine(figure)
    return figure


def verdict(table: pd.DataFrame, sizes: tuple[int, ...]) -> str:
    """Say which of the claims hold."""
    means = table.groupby(["arm", "units"]).R2.mean()
    largest = table[table.units == max(sizes)].pivot(index="seed", columns="arm", values="R2")
    gain = (largest["trained"] - largest["untrained"]).to_numpy()
    interval = t_interval(gain)
    small = table[(table.units == min(sizes)) & (table.arm != "echo state")].R2.max()
    rises = {arm: bool((np.diff([means[arm, size] for size in sizes]) > 0).all()) for arm in ("trained", "untrained")}
    spread = f"[{interval.lower:.3f}, {interval.upper:.3f}]"
    return "\n".join(
        [
            f"R2 rises with the number of units: trained {rises['trained']}, untrained {rises['untrained']}",
            f"trained - untrained at {max(sizes)} units: {gain.mean():.3f} {spread} (claim: .15 or more)",
            f"largest of all with {min(sizes)} units: {small:.3f} (claim: below .2)",
        ]
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
