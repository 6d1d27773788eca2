"""How often is a model announced where there is none? False positives of the printed decisions, and of a naive pipeline.

A small hidden Markov world (four sticky states, three observations) is sampled anew for every null. Four kinds of representations hold
nothing that may be announced:

- noise: slowly drifting noise, drawn without looking at the world; decision: beyond the input (rung 1)
- features: random features of the floor with memory; decision: beyond memory (rung 1b)
- initialisation: a reservoir, among 19 others; decision: due to training (rung 2a)
- weight noise: a reservoir whose weights were moved at random, among 19 others moved alike; decision: due to training (rung 2a)

The naive pipeline splits rows at random and permutes the labels of the held-out rows. By the number of episodes are printed: the power at
a planted emergence of .1, and how often features of the floor are announced, by the decision and by a linear floor alone.

    python studies/false_positives.py                # 2,000 nulls; continues where it was interrupted
    python studies/false_positives.py --n-nulls 200
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
from scipy import stats
from threadpoolctl import threadpool_limits

from worldprobe.probes import (
    FloorComparison,
    RandomFeatures,
    RidgeProbe,
    compare_floor,
    compare_twins,
    cross_fit,
    group_folds,
    group_losses,
    history_windows,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

KINDS = ("noise", "features", "initialisation", "weight noise")
N_STATES, N_OBSERVATIONS, N_STEPS, WIDTH = 4, 3, 20, 16
N_TWINS = 19
WINDOW = 3
PLANTED = 0.1
"""Emergence beyond the input of the representation that power is counted on."""
PROBE = RidgeProbe(alphas=(1e-4, 1e-3, 1e-2, 1e-1, 1.0))

TRANSITION = np.full((N_STATES, N_STATES), 0.04) + 0.84 * np.eye(N_STATES)
EMISSION = np.array([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])


@dataclass(frozen=True)
class Study:
    """Settings of the count."""

    directory: Path = Path("runs/false-positives")
    """Where table and figure are kept."""
    n_nulls: int = 2000
    """Nulls, a quarter of each kind."""
    n_planted: int = 100
    """Planted representations, and features of the floor, at each number of episodes."""
    n_episodes: int = 60
    """Episodes of 20 steps in each null."""
    power_at: tuple[int, ...] = (60, 240, 480, 960)
    """Numbers of episodes at which they are counted."""
    seed: int = 0
    """Every null has a generator of its own from this seed, its kind and its number."""


@dataclass(frozen=True, eq=False)
class Episodes:
    """Independent episodes of the world; arrays have a leading axis of rows, those of an episode together."""

    observations: Floats
    """One-hot (n, N_OBSERVATIONS)."""
    states: Floats
    """One-hot (n, N_STATES)."""
    beliefs: Floats
    """P(state | observations so far) (n, N_STATES)."""
    steps: Integers
    groups: Integers

    @property
    def input(self) -> Floats:
        """The floor without memory: the observation and the step, one-hot."""
        return np.concatenate([self.observations, np.eye(N_STEPS)[self.steps]], axis=1)

    def memory(self, generator: np.random.Generator) -> Floats:
        """The floor with memory: the input, a window of past observations, and an untrained reservoir."""
        window = history_windows(self.observations, self.steps, WINDOW)
        return np.concatenate([self.input, window, reservoirs(self.observations, draw_weights(generator, 1))[0]], axis=1)


def sample_episodes(generator: np.random.Generator, n_episodes: int) -> Episodes:
    """Draw episodes, and filter them."""
    state = generator.integers(N_STATES, size=n_episodes)
    prior = np.full((n_episodes, N_STATES), 1 / N_STATES)
    states, observations, beliefs = [], [], []
    for _ in range(N_STEPS):
        seen = (generator.random((n_episodes, 1)) > EMISSION[state].cumsum(axis=1)).sum(axis=1).clip(max=N_OBSERVATIONS - 1)
        posterior = prior * EMISSION[:, seen].T
        posterior /= posterior.sum(axis=1, keepdims=True)
        states.append(np.eye(N_STATES)[state])
        observations.append(np.eye(N_OBSERVATIONS)[seen])
        beliefs.append(posterior)
        state = (generator.random((n_episodes, 1)) > TRANSITION[state].cumsum(axis=1)).sum(axis=1).clip(max=N_STATES - 1)
        prior = posterior @ TRANSITION
    rows = [np.stack(values, axis=1).reshape(n_episodes * N_STEPS, -1) for values in (observations, states, beliefs)]
    steps, groups = np.tile(np.arange(N_STEPS), n_episodes), np.repeat(np.arange(n_episodes), N_STEPS)
    return Episodes(*rows, steps, groups)


def draw_weights(generator: np.random.Generator, n: int) -> Floats:
    """Draw the weights of reservoirs (n, WIDTH, WIDTH + N_OBSERVATIONS), recurrent ones first."""
    recurrent = 0.9 * generator.normal(size=(n, WIDTH, WIDTH)) / np.sqrt(WIDTH)
    return np.concatenate([recurrent, generator.normal(size=(n, WIDTH, N_OBSERVATIONS))], axis=2)


def move_weights(generator: np.random.Generator, weights: Floats, n: int) -> Floats:
    """Move weights (WIDTH, inputs) n times by Gaussian noise of half their norm."""
    noise = generator.normal(size=(n, *weights.shape))
    return weights + 0.5 * np.linalg.norm(weights) * noise / np.linalg.norm(noise, axis=(1, 2), keepdims=True)


def reservoirs(observations: Floats, weights: Floats) -> Floats:
    """Return the activities (n_reservoirs, n, WIDTH) of reservoirs driven by the same observations, each episode from zero."""
    by_step = observations.reshape(-1, N_STEPS, N_OBSERVATIONS).swapaxes(0, 1)
    h, activities = np.zeros((len(weights), by_step.shape[1], WIDTH)), []
    for seen in by_step:
        driven = np.concatenate([h, np.broadcast_to(seen, (*h.shape[:2], N_OBSERVATIONS))], axis=2)
        h = np.tanh(driven @ weights.swapaxes(1, 2))
        activities.append(h)
    return np.stack(activities, axis=2).reshape(len(weights), -1, WIDTH)


def drifting_noise(generator: np.random.Generator, n_episodes: int, width: int) -> Floats:
    """Draw random walks (n_episodes * N_STEPS, width)."""
    return generator.normal(size=(n_episodes, N_STEPS, width)).cumsum(axis=1).reshape(-1, width)


def announces(kind: str, episodes: Episodes, generator: np.random.Generator) -> tuple[bool, bool]:
    """Draw one null representation; return what the printed decision says of it, and what the naive pipeline says."""
    if kind == "noise":
        h = drifting_noise(generator, len(np.unique(episodes.groups)), WIDTH)
        return against(episodes.input, h, episodes).beyond, naive(h, episodes, generator)
    if kind == "features":
        floor, h = boundary(episodes, generator)
        return against(floor, h, episodes).beyond, naive(h, episodes, generator)
    weights = draw_weights(generator, 1 + N_TWINS)
    if kind == "weight noise":
        weights = move_weights(generator, weights[0], 1 + N_TWINS)
    activities = reservoirs(episodes.observations, weights)
    losses = np.stack([joint_losses(h, episodes) for h in activities])
    return compare_twins(losses[0], losses[1:]).below, naive(activities[0], episodes, generator)


def boundary(episodes: Episodes, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the floor with memory, and random features of it."""
    floor = episodes.memory(generator)
    return floor, RandomFeatures(WIDTH, random_state=int(generator.integers(2**31))).fit_transform(floor)


def against(floor: Floats, h: Floats, episodes: Episodes) -> FloorComparison:
    """Rungs 1 and 1b: compare with the floor, read linearly, through random features and through a network."""
    folds = group_folds(episodes.groups, 3)
    return compare_floor(h, floor, episodes.states, episodes.groups, folds, units=2 * WIDTH, probe=PROBE)


def joint_losses(h: Floats, episodes: Episodes) -> Floats:
    """Held-out loss of each episode from the input and a reservoir."""
    X, folds = np.concatenate([episodes.input, h], axis=1), group_folds(episodes.groups, 3)
    predictions = cross_fit(X, episodes.states, episodes.groups, folds, PROBE).predictions
    return group_losses(episodes.states, predictions, episodes.groups)


def naive(h: Floats, episodes: Episodes, generator: np.random.Generator) -> bool:
    """Call every row a group, split rows at random, and compare the held-out error with those of 99 permutations of the labels."""
    order = generator.permutation(len(h))
    fit, test = order[: len(h) // 2], order[len(h) // 2 :]
    predictions = PROBE.fit(h[fit], episodes.states[fit], groups=np.arange(len(fit))).predict(h[test])
    truth = episodes.states[test]
    permuted = [np.square(truth[generator.permutation(len(test))] - predictions).sum() for _ in range(99)]
    return bool(np.square(truth - predictions).sum() < np.quantile(permuted, 0.05))


def planted(episodes: Episodes, generator: np.random.Generator) -> Floats:
    r"""Draw a representation whose emergence beyond the input is `PLANTED`.

    What the belief adds to the input, r, is laid under noise of the covariance of r and of (1 / E - 1) times its size: the best linear
    prediction then gains E times what the belief gains.
    """
    design = np.concatenate([episodes.input, np.ones((len(episodes.input), 1))], axis=1)
    r = episodes.beliefs - design @ np.linalg.lstsq(design, episodes.beliefs, rcond=None)[0]
    noise = generator.multivariate_normal(np.zeros(N_STATES), np.cov(r.T), size=len(r), check_valid="ignore")
    rest = drifting_noise(generator, len(r) // N_STEPS, WIDTH - N_STATES)
    rotation = np.linalg.qr(generator.normal(size=(WIDTH, WIDTH)))[0]
    return np.concatenate([r + np.sqrt(1 / PLANTED - 1) * noise, rest], axis=1) @ rotation


def count_null(study: Study, number: int) -> dict[str, object]:
    """Decide about one null."""
    kind = KINDS[number % len(KINDS)]
    generator = np.random.default_rng([study.seed, 0, number])
    decision, by_rows = announces(kind, sample_episodes(generator, study.n_episodes), generator)
    return {"null": number, "kind": kind, "announced": decision, "naive": by_rows}


def count_power(study: Study, n_episodes: int, number: int) -> dict[str, bool]:
    """Decide about one planted representation, and about random features of the floor from as many episodes."""
    generator = np.random.default_rng([study.seed, n_episodes, number])
    episodes = sample_episodes(generator, n_episodes)
    found = against(episodes.input, planted(episodes, generator), episodes).beyond
    null = against(*boundary(episodes, generator), episodes)
    return {"planted": found, "features": null.beyond, "features, linear floor alone": bool(null.forms["linear"].gain.lower > 0)}


def main(study: Study) -> pd.DataFrame:
    """Count, write false_positives.csv, power.csv and false_positives.png, and print the counts beside those that are accepted."""
    study.directory.mkdir(parents=True, exist_ok=True)
    table = count_nulls(study)
    power = count_by_episodes(study)
    draw(table, power).savefig(study.directory / "false_positives.png", dpi=160, bbox_inches="tight")
    print(summary(table).to_string(index=False))
    print(power.to_string(index=False))
    return table


def count_nulls(study: Study) -> pd.DataFrame:
    """Decide about every null that is not yet in the table."""
    path = study.directory / f"false_positives-{study.seed}-{study.n_episodes}.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    for number in range(len(rows), study.n_nulls):
        rows.append(count_null(study, number))
        if number % 50 == 49 or number == study.n_nulls - 1:
            pd.DataFrame(rows).to_csv(path, index=False)
    return pd.DataFrame(rows[: study.n_nulls])


def count_by_episodes(study: Study) -> pd.DataFrame:
    """Return the share of planted representations, and of features of the floor, that is announced at each number of episodes."""
    path = study.directory / f"power-{study.seed}-{study.n_planted}.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    for n_episodes in study.power_at[len(rows) :]:
        counted = pd.DataFrame([count_power(study, n_episodes, number) for number in range(study.n_planted)])
        rows.append({"episodes": n_episodes, **counted.mean()})
        pd.DataFrame(rows).to_csv(path, index=False)
    return pd.DataFrame(rows)


def accepted(n_nulls: int) -> int:
    """Return the most false positives of a test at 5 % in 19 of 20 counts: 15 of 200, 116 of 2,000."""
    return int(stats.binom.ppf(0.95, n_nulls, 0.05))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the counts by kind and together, with the most that are accepted of a test at 5 %."""
    parts = [(kind, table[table.kind == kind]) for kind in KINDS] + [("all", table)]
    rows = [
        {"kind": kind, "nulls": len(part), "announced": part.announced.sum(), "accepted": accepted(len(part)), "naive": part.naive.sum()}
        for kind, part in parts
    ]
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, power: pd.DataFrame) -> plt.Figure:
    """Draw the shares of announcements by kind, the naive pipeline's beside them, and the power."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", width_ratios=(2, 1))
    shares = table.melt(("null", "kind"), ("announced", "naive"), var_name="pipeline", value_name="share")
    shares["pipeline"] = shares.pipeline.map({"announced": "printed decision", "naive": "row split + permutation"})
    sns.barplot(shares, x="kind", y="share", hue="pipeline", order=KINDS, ax=left, errorbar=None)
    for bars in left.containers:
        left.bar_label(bars, fmt="{:.3f}", fontsize=8)
    left.axhline(0.05, color="black", linewidth=0.8, linestyle=":")
    left.set(xlabel=f"{len(table):,} nulls", ylabel="share announced", ylim=(0, 1.1))
    sns.move_legend(left, "lower center", bbox_to_anchor=(0.5, 1), ncol=2, title=None)
    sns.lineplot(power.set_index("episodes"), ax=right, markers=True, dashes=False)
    right.set(xlabel="episodes", ylabel="share announced", ylim=(0, 1.05), xscale="log")
    right.set_xticks(power.episodes, power.episodes.astype(str))
    sns.move_legend(right, "lower center", bbox_to_anchor=(0.5, 1), title=None)
    right.minorticks_off()
    sns.despine(figure)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main(tyro.cli(Study))
