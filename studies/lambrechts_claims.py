"""Do the three claims of the closest earlier study hold: what do recurrent Q-learners come to know of the belief, and what do they forget?

Lambrechts, Bolland & Ernst (2022): while a recurrent network learns values, (1) the mutual information of its hidden state and the
belief rises; (2) the more of it, the higher the return, over networks and training; (3) the information about beliefs that do not matter
falls. Five kinds of core learn by DRQN in the T-Maze (L = 10, lambda = .2) with two irrelevant random walks. Information is estimated by
MINE on one random step of each episode, on the network's own episodes as they did, and, since these change with the policy, on the one
common stream of the world as well.

    python studies/lambrechts_claims.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import tyro
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.stats import spearmanr

from worldprobe.activations import CommonBehaviour, EpsilonGreedy, Recording, open_recording, record, replay
from worldprobe.agents import DrqnConfig, NetworkConfig, evaluate_return, load_checkpoint, seeded_generator, train_drqn, training_preset
from worldprobe.probes import MINE
from worldprobe.worlds import make_world, solve_pomdp

WORLD = "tmaze-irrelevant"
BELIEFS = {"state": "belief/state", "walks": "belief/walk_mean"}
STREAMS = ("own", "common")
COLOURS = {"gru": "#0072b2", "lstm": "#009e73", "rnn": "#e69f00", "mingru": "#cc79a7", "lru": "#56b4e9"}


@dataclass(frozen=True)
class Study:
    """Settings."""

    directory: Path = Path("runs/lambrechts")
    """Where networks, streams, table and figure are kept."""
    cores: tuple[str, ...] = tuple(COLOURS)
    """Kinds of core, each two layers of 32 units."""
    n_seeds: int = 2
    """Networks of each."""
    total_steps: int = 60_000
    """Environment steps of each training."""
    n_checkpoints: int = 5
    """Of each training, the untrained network included."""
    n_pairs: int = 3000
    """Episodes that MINE is fitted to, and as many that it is told afterwards."""
    n_epochs: int = 100
    """Of MINE."""
    n_processes: int = 2
    """Networks at once."""


def main(study: Study) -> pd.DataFrame:
    """Train, estimate, write lambrechts.csv and lambrechts.png, and print the claims."""
    world = make_world(WORLD)
    record(None, world, study.directory / "common.wpr", CommonBehaviour(world), 2 * study.n_pairs, seed=0, n_envs=256).close()
    jobs = [(core, seed) for core in study.cores for seed in range(study.n_seeds)]
    table = pd.concat(Parallel(n_jobs=study.n_processes)(delayed(follow)(study, core, seed) for core, seed in jobs), ignore_index=True)
    table.to_csv(study.directory / "lambrechts.csv", index=False, float_format="%.6f")
    draw(table).savefig(study.directory / "lambrechts.png", dpi=160, bbox_inches="tight")
    shown = table.pivot_table(index=["stream", "belief", "core"], columns="checkpoint", values="nats")
    print(shown.round(2).to_string())
    print(verdict(table))
    return table


def follow(study: Study, core: str, seed: int) -> pd.DataFrame:
    """Train one network and return what each of its checkpoints knows and earns."""
    torch.set_num_threads(1)
    world, (_, training) = make_world(WORLD), training_preset("tmaze", "drqn")
    assert isinstance(training, DrqnConfig)
    config = replace(training, total_steps=study.total_steps, n_checkpoints=study.n_checkpoints, n_evaluations=2, n_evaluation_episodes=256)
    network = NetworkConfig(core=core, hidden_size=32, n_layers=2, encoder_sizes=())
    directory = study.directory / f"{core}-{seed}"
    checkpoints = train_drqn(world, network, config, directory, seed).checkpoints
    agents = {step: load_checkpoint(path)[0] for step, path in checkpoints.items()}
    known: dict[str, list[tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]]] = {stream: [] for stream in STREAMS}
    with open_recording(study.directory / "common.wpr") as common:
        for step, agent in agents.items():
            known["common"].append(one_step_each(common, replay(agent, common)["core.h"]))
            path = study.directory / f"{core}-{seed}-{step}.wpr"
            with record(agent, world, path, EpsilonGreedy(agent, 0.2), 2 * study.n_pairs, 0, ("core.h",), n_envs=256) as own:
                known["own"].append(one_step_each(own, own["core.h"][:]))
    earned = [evaluate_return(agent, world, 1000, seeded_generator(0, "fresh")).mean_return for agent in agents.values()]
    rows = []
    for stream, pairs in known.items():
        for belief in BELIEFS:
            nats = information(study, np.stack([hidden for hidden, _ in pairs]), np.stack([beliefs[belief] for _, beliefs in pairs]))
            rows += [
                {
                    "core": core,
                    "seed": seed,
                    "stream": stream,
                    "belief": belief,
                    "checkpoint": place,
                    "step": step,
                    "nats": value,
                    "return": gain,
                }
                for place, (step, value, gain) in enumerate(zip(agents, nats, earned, strict=True))
            ]
    return pd.DataFrame(rows)


def one_step_each(recording: Recording, hidden: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Return hidden states and beliefs at one random step of every episode."""
    episodes = recording.episodes
    drawn = np.random.default_rng(0).integers(episodes["length"].to_numpy())
    rows = episodes["start"].to_numpy() + drawn
    return hidden[rows], {name: recording[key][:][rows].astype(np.float32) for name, key in BELIEFS.items()}


def information(study: Study, hidden: NDArray[np.float32], beliefs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mutual information in nats of stacks (checkpoints, episodes, width), told on episodes that MINE was not fitted to."""
    n = study.n_pairs
    mine = MINE(n_epochs=study.n_epochs, random_state=0).fit(hidden[:, :n], beliefs[:, :n])
    return np.asarray(mine.estimate(hidden[:, n:], beliefs[:, n:]))


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw information over training, of both beliefs, and return over information, on the networks' own episodes."""
    own = table[table.stream == "own"]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    for (core, seed), rows in own.groupby(["core", "seed"]):
        label = core if seed == 0 else None
        for ax, belief in zip(axes, BELIEFS, strict=False):
            curve = rows[rows.belief == belief]
            ax.plot(curve.checkpoint, curve.nats, color=COLOURS[core], marker="o", markersize=3, label=label)
        state = rows[rows.belief == "state"]
        axes[2].plot(state.nats, state["return"], color=COLOURS[core], marker="o", markersize=3, linewidth=0.6)
    steps = own.drop_duplicates("checkpoint").step
    for ax, title in zip(axes, ("the state", "the irrelevant walks"), strict=False):
        ax.set(xlabel="environment steps", ylabel="information (nats)", title=f"on the belief of {title}", ylim=(0, None))
        ax.set_xticks(range(len(steps)), [f"{step:,}" for step in steps], fontsize=7)
    axes[2].set(xlabel="information on the belief of the state (nats)", ylabel="greedy return")
    axes[0].legend(frameon=False, fontsize="small")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def verdict(table: pd.DataFrame) -> str:
    """Say of each claim how far it holds, on both streams."""
    best = solve_pomdp(make_world("tmaze"), frozenset({"observation", "action"})).undiscounted
    last = table.checkpoint.max()
    lines = [f"return at the end: {table[table.checkpoint == last]['return'].min():.2f} at least, optimum {best:.2f}"]
    for stream, rows in table.groupby("stream"):
        change = {
            belief: (
                each[each.checkpoint == last].set_index(["core", "seed"]).nats - each[each.checkpoint == 0].set_index(["core", "seed"]).nats
            )
            for belief, each in rows.groupby("belief")
        }
        rose, fell = change["state"], change["walks"]
        state = rows[rows.belief == "state"]
        rank = spearmanr(state.nats, state["return"]).statistic if state["return"].nunique() > 1 else np.nan
        lines += [
            f"{stream} stream: (1) information on the state rose in {(rose > 0).sum()} of {len(rose)} networks, by {rose.mean():+.2f} nats",
            f"  (2) rank correlation of return and information, all checkpoints: {rank:.2f}",
            f"  (3) information on the walks fell in {(fell < 0).sum()} of {len(fell)} networks, by {fell.mean():+.2f} nats",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
