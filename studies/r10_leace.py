"""R10: LEACE is exact, and what it leaves.

Activations of an untrained recurrent network (width 64) on a hidden Markov world, the concept its state (2 to 8 classes). For each eraser:
the rank it removes, how far it moves the activations (mean squared displacement over total variance), what linear probes read on the fitted
rows, and the bits that a logistic probe and an MLP read on held-out episodes. Belrose et al. 2023: after LEACE no linear classifier beats a
constant on the fitted rows, the rank is classes - 1, and nothing moves less.

    python studies/r10_leace.py
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
from sklearn.linear_model import LinearRegression, LogisticRegression

from worldprobe.probes import Eraser, EraserFitter, LogisticProbe, MLPProbe, estimate_usable_information, fit_inlp, group_folds

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Study:
    """Settings of R10."""

    directory: Path = Path("runs/r10")
    """Where table and figure are kept."""
    n_episodes: int = 200
    length: int = 25
    n_classes: tuple[int, ...] = (2, 4, 8)
    """States of the world, which are the concept."""
    width: int = 64
    seed: int = 0


def activations(study: Study, n_classes: int) -> tuple[Floats, Integers, Integers]:
    """Return the hidden states of an untrained GRU on a sticky hidden Markov world, the world's states, and the episodes."""
    generator = np.random.default_rng([study.seed, n_classes])
    state, states = generator.integers(n_classes, size=study.n_episodes), []
    for _ in range(study.length):
        states.append(state)
        moves = generator.random(study.n_episodes) < 0.15
        state = np.where(moves, generator.integers(n_classes, size=study.n_episodes), state)
    labels = np.stack(states, axis=1)
    heard = np.eye(n_classes)[labels] + 0.8 * generator.normal(size=(*labels.shape, n_classes))
    torch.manual_seed(study.seed)
    network = torch.nn.GRU(n_classes, study.width, batch_first=True)
    with torch.no_grad():
        hidden = network(torch.from_numpy(heard.astype(np.float32)))[0]
    groups = np.repeat(np.arange(study.n_episodes), study.length)
    return hidden.reshape(-1, study.width).double().numpy(), labels.reshape(-1), groups


def erasers(X: Floats, labels: Integers, groups: Integers) -> dict[str, Eraser]:
    """Fit every eraser."""
    fitter = EraserFitter().update(X, np.eye(int(labels.max()) + 1)[labels])
    leace = fitter.leace()
    nothing = Eraser(leace.mean, leace.reading[:, :0], leace.writing[:0])
    return {
        "none": nothing,
        "random, equal rank and displacement": fitter.random(leace, random_state=0),
        "mean difference": fitter.mean_difference(),
        "INLP, 8 rounds": fit_inlp(X, labels, groups, n_rounds=8),
        "LEACE": leace,
    }


def measure(study: Study, n_classes: int) -> list[dict[str, object]]:
    """Erase the state by every eraser, and read what is left."""
    X, labels, groups = activations(study, n_classes)
    one_hot, majority = np.eye(n_classes)[labels], np.bincount(labels).max() / len(labels)
    folds = group_folds(groups, 3)
    probes = {"linear bits": LogisticProbe(), "MLP bits": MLPProbe((64,), loss="log", max_epochs=30)}
    rows: list[dict[str, object]] = []
    for name, eraser in erasers(X, labels, groups).items():
        erased = eraser.transform(X)
        basis = np.linalg.svd(erased - erased.mean(axis=0), full_matrices=False)
        white = basis[0][:, basis[1] > 1e-7 * basis[1][0]] * np.sqrt(len(X))
        left = {key: estimate_usable_information(erased, labels, groups, folds, estimator=probe) for key, probe in probes.items()}
        rows.append(
            {
                "classes": n_classes,
                "eraser": name,
                "rank": eraser.rank,
                "moved": eraser.displacement(X) / X.var(axis=0).sum(),
                "fitted R²": max(LinearRegression().fit(white, one_hot).score(white, one_hot), 0.0),
                "accuracy - majority": LogisticRegression(C=1e3, max_iter=2000).fit(white, labels).score(white, labels) - majority,
                **{key: information.bits.estimate for key, information in left.items()},
            }
        )
    return rows


def verdict(table: pd.DataFrame) -> str:
    """Say whether the theorem holds, class by class."""
    leace = table[table.eraser == "LEACE"]
    shares = leace.moved.to_numpy() / table[table.eraser == "mean difference"].moved.to_numpy()
    return "\n".join(
        [
            f"R² on the fitted rows after LEACE: {leace['fitted R²'].max():.1e} at most (theorem: 0; accepted: 1e-6)",
            f"accuracy above the majority: {leace['accuracy - majority'].abs().max():.1e} (theorem: 0)",
            f"rank: {', '.join(map(str, leace['rank']))} for {', '.join(map(str, leace.classes))} classes (theorem: classes - 1)",
            f"displacement over the orthogonal eraser's: {', '.join(f'{share:.2f}' for share in shares)} (theorem: below 1)",
            f"bits that an MLP still reads: {', '.join(f'{bits:.2f}' for bits in leace['MLP bits'])}",
        ]
    )


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw what is left, linear and MLP, for every eraser and number of classes."""
    classes = table.classes.unique()
    figure, axes = plt.subplots(1, len(classes), figsize=(4 + 2.5 * len(classes), 3), sharey=True, squeeze=False, layout="constrained")
    long = table.melt(("classes", "eraser"), ("linear bits", "MLP bits"), var_name="probe", value_name="bits left")
    for ax, n_classes in zip(axes[0], classes, strict=True):
        sns.barplot(long[long.classes == n_classes], x="bits left", y="eraser", hue="probe", ax=ax, legend=bool(ax is axes[0, -1]))
        ax.set(ylabel="", title=f"{n_classes} classes")
    sns.move_legend(axes[0, -1], "center left", bbox_to_anchor=(1, 0.5), title=None)
    sns.despine(figure)
    return figure


def main(study: Study) -> pd.DataFrame:
    """Erase, write r10.csv and r10.png, and print what is left beside what the theorem says."""
    study.directory.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([row for n_classes in study.n_classes for row in measure(study, n_classes)])
    table.to_csv(study.directory / "r10.csv", index=False, float_format="%.8f")
    draw(table).savefig(study.directory / "r10.png", dpi=160, bbox_inches="tight")
    print(table.round(3).to_string(index=False))
    print(verdict(table))
    return table


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(Study))
