"""R6: a belief that is linear in activations proves nothing where it is linear in the next token's probabilities.

Shai et al. 2024 find the belief simplex of hidden Markov processes linearly in a transformer's activations. Nothing is trained here:
exact samples of two of their processes, and the exact belief read by ridge, held out by sequence, from the optimal next-token
probabilities, from a window of past tokens, and from untrained networks. In Mess3 all of them hold it; in RRXOR none does, so RRXOR is
the one to use.

    python studies/r6_rrxor_mess3.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import tyro
from numpy.typing import NDArray

from worldprobe.probes import cross_fit, group_folds, history_windows
from worldprobe.worlds import PredictionWorld, mess3, rrxor

Floats = NDArray[np.float64]

EXPECTED = {
    ("mess3", "next-token probabilities"): (1.0, 1.0, 0.02),
    ("mess3", "untrained GRU"): (0.988, 0.988, 0.05),
    ("rrxor", "next-token probabilities"): (0.24, 0.24, 0.02),
    ("rrxor", "window of 10 tokens"): (0.07, 0.07, 0.02),
    ("rrxor", "untrained GRU"): (0.28, 0.72, 0.05),
}
"""Range and tolerance of what was measured before; networks of every width and gain must lie in theirs."""


@dataclass(frozen=True)
class Study:
    """Settings of R6."""

    directory: Path = Path("runs/r6")
    """Where table and figure are kept."""
    n_sequences: int = 1500
    """Sequences of each process."""
    length: int = 32
    """Tokens of a sequence; the first is met by the stationary belief, so early rows are uncertain of the phase."""
    n_seeds: int = 5
    """Untrained networks of each width and gain."""
    widths: tuple[int, ...] = (64, 256)
    """Hidden sizes of untrained GRUs."""
    gains: tuple[float, ...] = (1.0, 2.0)
    """What torch's initial weights are multiplied by."""


PROCESSES: dict[str, Callable[[], PredictionWorld]] = {"mess3": mess3, "rrxor": rrxor}


@dataclass(frozen=True, eq=False)
class Sample:
    """Sequences of one process, one row per token."""

    tokens: Floats
    """One-hot (n, n_tokens)."""
    beliefs: Floats
    """P(state after the token | tokens so far) (n, n_states)."""
    next_token: Floats
    """P(next token | tokens so far) (n, n_tokens)."""
    steps: NDArray[np.int64]
    groups: NDArray[np.int64]


def sample(world: PredictionWorld, study: Study) -> Sample:
    """Draw sequences from the stationary law, filter them, and predict one token ahead."""
    n, generator = study.n_sequences, torch.Generator().manual_seed(0)
    belief_filter = world.belief_filter(frozenset({"observation", "action"}))
    guess, going_on = torch.zeros(n, dtype=torch.int64), torch.zeros(n, dtype=torch.bool)
    state = world.reset(n, generator)
    seen = world.observe(state, generator)
    belief = belief_filter.start(seen, generator)
    history: list[tuple[torch.Tensor, ...]] = []
    for _ in range(study.length):
        ahead = world.expect_factors(world.predict_belief(belief, guess.unsqueeze(1)))["token"]
        history.append((seen, world.expect_factors(belief)["hidden"], ahead))
        state, reward, _ = world.step(state, guess, generator)
        seen = world.observe(state, generator)
        belief = belief_filter.update(belief, guess, reward, seen, going_on, generator)
    rows = [torch.stack(column, 1).flatten(0, 1).double().numpy() for column in zip(*history, strict=True)]
    steps, groups = np.tile(np.arange(study.length), n), np.repeat(np.arange(n), study.length)
    return Sample(*rows, steps, groups)


def untrained(drawn: Sample, study: Study, width: int, gain: float, seed: int) -> Floats:
    """Return the hidden states (n, width) of an untrained GRU on the tokens."""
    torch.manual_seed(seed)
    network = torch.nn.GRU(drawn.tokens.shape[1], width, batch_first=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= gain
        tokens = torch.from_numpy(drawn.tokens.astype(np.float32)).reshape(study.n_sequences, study.length, -1)
        return network(tokens)[0].reshape(-1, width).double().numpy()


def read(features: Floats, drawn: Sample) -> tuple[Floats, float]:
    """Return the belief as it is read out of fold, and the R^2 over all its columns together."""
    predictions = cross_fit(features, drawn.beliefs, drawn.groups, group_folds(drawn.groups, 3)).predictions
    spread = np.square(drawn.beliefs - drawn.beliefs.mean(axis=0)).sum()
    return predictions, float(1 - np.square(drawn.beliefs - predictions).sum() / spread)


def measure(name: str, study: Study) -> pd.DataFrame:
    """Read the belief of one process from everything."""
    drawn = sample(PROCESSES[name](), study)
    rows: list[dict[str, object]] = [
        {"process": name, "features": "next-token probabilities", "r2": read(drawn.next_token, drawn)[1]},
        {"process": name, "features": "window of 10 tokens", "r2": read(history_windows(drawn.tokens, drawn.steps, 9), drawn)[1]},
    ]
    for width in study.widths:
        for gain in study.gains:
            for seed in range(study.n_seeds if (width, gain) == (64, 1.0) else 1):
                r2 = read(untrained(drawn, study, width, gain, seed), drawn)[1]
                features = f"untrained GRU-{width}" + f", gain {gain:g}" * (gain != 1)
                rows.append({"process": name, "features": features, "seed": seed, "r2": r2})
    return pd.DataFrame(rows)


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Return what was found beside what was expected."""
    rows = []
    for (process, features), (low, high, within) in EXPECTED.items():
        found = table[(table.process == process) & table.features.str.startswith(features)].r2
        holds = bool(found.between(low - within, high + within).all())
        expected = f"{low:.3f}" if low == high else f"{low:.3f} to {high:.3f}"
        row = {"process": process, "features": features, "lowest": found.min(), "highest": found.max()}
        rows.append({**row, "expected": expected, "within": within, "holds": holds})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, study: Study) -> plt.Figure:
    """Draw the scores, and Mess3's belief simplex: exact, and as an untrained network holds it."""
    figure, (left, *simplices) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", width_ratios=(1.5, 1, 1))
    sns.barplot(table, x="r2", y="features", hue="process", ax=left, errorbar=None)
    sns.move_legend(left, "lower center", bbox_to_anchor=(0.5, 1), ncol=2, title=None)
    left.set(xlabel="held-out R² of the exact belief", ylabel="", xlim=(0, 1))
    drawn = sample(mess3(), study)
    decoded, _ = read(untrained(drawn, study, 64, 1.0, 0), drawn)
    corners = np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])
    for ax, beliefs, title in zip(simplices, (drawn.beliefs, decoded), ("Mess3: exact belief", "from an untrained GRU-64"), strict=True):
        ax.scatter(*(beliefs[::5] @ corners).T, s=1, c=drawn.beliefs[::5].clip(0, 1), linewidths=0)
        ax.set(title=title, aspect="equal", xlim=(-0.05, 1.05), ylim=(-0.05, 0.95))
        ax.set_axis_off()
    sns.despine(ax=left)
    return figure


def main(study: Study) -> pd.DataFrame:
    """Measure both processes, write r6.csv and r6.png, and print what was found beside what was expected."""
    study.directory.mkdir(parents=True, exist_ok=True)
    table = pd.concat([measure(name, study) for name in PROCESSES], ignore_index=True)
    table.to_csv(study.directory / "r6.csv", index=False, float_format="%.6f")
    draw(table, study).savefig(study.directory / "r6.png", dpi=160, bbox_inches="tight")
    print(table.groupby(["process", "features"], sort=False).r2.agg(["min", "mean", "max"]).round(3).to_string())
    compared = compare(table)
    print(compared.round(3).to_string(index=False))
    return compared


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
