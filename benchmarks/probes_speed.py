"""How fast probes are, beside what they are made of and beside scikit-learn, in processor seconds of one thread.

`python benchmarks/probes_speed.py {ridge,logistic} [--fast]` prints one JSON object: versions, sizes, seconds and ratios.

- ridge: 100,000 x 512 rows, 256 targets, 20 penalties chosen for each target on 5 grouped folds, beside the bare products X'X and X'Y of
  the same precision, and beside scikit-learn's `RidgeCV` over the same penalties and folds on standardised features.
- logistic: hidden states of a GRU of 256 units that learned in a T-Maze with rewards among its inputs, recorded with our own stack
  (46,000 rows), the position at 8 horizons (16 classes), one penalty, 5 folds of episodes; `LogisticProbe.fit_folds` on all heads at
  once, beside a loop of `LogisticRegression` over some heads of one fold: the mean of their seconds counts once for each head and
  fold. Held-out losses stand beside each other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import PredefinedSplit

from worldprobe.activations import EpsilonGreedy, package_versions, record
from worldprobe.agents import NetworkConfig, PqnConfig, load_checkpoint, train_pqn
from worldprobe.probes import LogisticProbe, RidgeProbe, group_folds
from worldprobe.worlds import TMaze


@dataclass(frozen=True)
class RidgePlan:
    """Sizes of the ridge benchmark."""

    n_samples: int = 100_000
    n_features: int = 512
    n_targets: int = 256
    n_alphas: int = 20
    n_folds: int = 5
    repeats: int = 3


@dataclass(frozen=True)
class LogisticPlan:
    """Sizes of the logistic benchmark."""

    n_samples: int = 46_000
    hidden_size: int = 256
    n_horizons: int = 8
    n_folds: int = 5
    training_steps: int = 131_072
    n_episodes: int = 3000
    compared: tuple[int, ...] = (0, 2, 5, 7)
    """Horizons that scikit-learn is run on; their mean stands for the others."""


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor time of some work, and what it returned."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def least(work: Callable[[], Any], repeats: int) -> float:
    """Return the least processor time of several runs."""
    return min(seconds(work)[0] for _ in range(repeats))


def products(X: NDArray[Any], Y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what a ridge cannot do without."""
    return X.T @ X, X.T @ Y


def ridge(plan: RidgePlan) -> dict[str, Any]:
    """Time the bare products, our probe in both precisions, and scikit-learn."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(plan.n_samples, plan.n_features)).astype(np.float32)
    Y = X[:, : plan.n_targets] + rng.normal(size=(plan.n_samples, plan.n_targets))
    groups = np.arange(plan.n_samples) // 100
    folds, alphas = group_folds(groups, plan.n_folds), np.logspace(-7, 3, plan.n_alphas)
    result: dict[str, Any] = asdict(plan)
    precisions: tuple[Literal["float64"], Literal["float32"]] = ("float64", "float32")
    for precision in precisions:
        A, B = X.astype(precision), Y.astype(precision)
        bare = least(partial(products, A, B), plan.repeats)
        probe = RidgeProbe(alphas.tolist(), precision=precision)
        ours = least(partial(probe.fit, A, Y, groups, folds=folds), plan.repeats)
        result |= {f"bare_{precision}_s": bare, f"ours_{precision}_s": ours, f"ours_over_bare_{precision}": ours / bare}
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    peer = RidgeCV(alphas * len(X), cv=PredefinedSplit(folds), scoring="r2")
    result["sklearn_s"] = seconds(partial(peer.fit, Z.astype(np.float64), Y))[0]
    return result | {"sklearn_over_ours_float64": result["sklearn_s"] / result["ours_float64_s"]}


def recorded(plan: LogisticPlan) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Train and record a GRU; return its hidden states, the position at every horizon (arms are absorbing), and the episodes."""
    world = TMaze(length=13)
    network = NetworkConfig(core="gru", hidden_size=plan.hidden_size, channels=("observation", "action", "reward"))
    training = PqnConfig(total_steps=plan.training_steps, n_evaluations=1, n_evaluation_episodes=16)
    with tempfile.TemporaryDirectory() as folder:
        agent, _ = load_checkpoint(train_pqn(world, network, training, Path(folder) / "training", seed=0).final)
        behaviour = EpsilonGreedy(agent, 0.3)
        with record(agent, world, Path(folder) / "own.wpr", behaviour, plan.n_episodes, 0, ("core.h",)) as recording:
            X, position, groups = recording["core.h"][:], recording["factor/position"][:], recording.groups
            final, terminated = recording["final_factor/position"][:], recording.episodes["terminated"].to_numpy()
    _, episode, length = np.unique(groups, return_inverse=True, return_counts=True)
    end = np.cumsum(length)[episode]
    ahead = np.arange(len(X))[:, None] + np.arange(plan.n_horizons)
    labels = np.where(ahead < end[:, None], position[np.minimum(ahead, end[:, None] - 1)], final[episode][:, None])
    known = np.flatnonzero(((ahead <= end[:, None]) | terminated[episode][:, None]).all(axis=1))[: plan.n_samples]
    return X[known], labels[known], groups[known]


def log_loss(p: NDArray[np.float64], classes: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Return the mean log-loss in nats, with no probability below 1e-6."""
    own = (p * (labels[:, None] == classes)).sum(axis=1)
    return float(-np.log(np.maximum(own, 1e-6)).mean())


def logistic(plan: LogisticPlan) -> dict[str, Any]:
    """Time our probe on all heads and folds, and scikit-learn on the heads of one fold."""
    X, labels, groups = recorded(plan)
    folds = group_folds(groups, plan.n_folds)
    held = folds == 0
    alpha = 1 / int((~held).sum())
    ours, probes = seconds(partial(LogisticProbe(alphas=(alpha,)).fit_folds, X, labels, folds, groups))
    Z = (X - X[~held].mean(axis=0)) / X[~held].std(axis=0)
    p, heads = probes[0].predict_proba(X[held]), []
    for k in plan.compared:
        peer = LogisticRegression(C=1.0, max_iter=10_000)
        took, _ = seconds(partial(peer.fit, Z[~held], labels[~held, k]))
        losses = (
            log_loss(p[k], probes[0].classes_[k], labels[held, k]),
            log_loss(peer.predict_proba(Z[held]), peer.classes_, labels[held, k]),
        )
        ratio = took * plan.n_folds * plan.n_horizons / ours
        heads.append({"horizon": k, "sklearn_s": took, "ours_nats": losses[0], "sklearn_nats": losses[1], "ratio": ratio})
    total = float(np.mean([head["sklearn_s"] for head in heads])) * plan.n_folds * plan.n_horizons
    worst = max(head["ours_nats"] - head["sklearn_nats"] for head in heads)
    sizes = asdict(plan) | {"n_samples": len(X), "alpha": alpha}
    return sizes | {"ours_s": ours, "sklearn_s": total, "sklearn_over_ours": total / ours, "worst_excess_nats": worst, "heads": heads}


FAST_RIDGE = replace(RidgePlan(), n_samples=10_000, n_features=128, n_targets=64, repeats=1)
FAST_LOGISTIC = LogisticPlan(n_samples=4000, hidden_size=64, training_steps=8192, n_episodes=300, compared=(0, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("ridge", "logistic"))
    parser.add_argument("--fast", action="store_true", help="small sizes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "ridge":
        result = ridge(FAST_RIDGE if arguments.fast else RidgePlan())
    else:
        result = logistic(FAST_LOGISTIC if arguments.fast else LogisticPlan())
    print(
        json.dumps(
            {"benchmark": f"probes_speed {arguments.what}", "versions": package_versions(), "threads": 1, "result": result}, indent=1
        )
    )


if __name__ == "__main__":
    main()
