"""How the cost of probes grows: linearly with rows, and less than linearly with everything that shares a reading of them.

`python benchmarks/probes_scaling.py [--figure scaling.png] [--fast]` fits ridge and logistic probes while one size at a time is doubled
from the base, in processor seconds of one thread (the median of several rounds, in which sizes take turns). It prints one JSON object with
the seconds and the exponent of each dial, the slope of log seconds on log size, and draws a panel for each, with the line that a loop over
the same fits would follow.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from worldprobe.activations import package_versions
from worldprobe.probes import LogisticProbe, RidgeProbe, group_folds


@dataclass(frozen=True)
class Sizes:
    """One fit."""

    rows: int = 8000
    targets: int = 4
    folds: int = 4
    penalties: int = 4
    n_features: int = 64
    n_classes: int = 4


DIALS = ("rows", "targets", "folds", "penalties")


def data(sizes: Sizes) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Return correlated features, real targets (one per horizon, say) that are partly linear in them, and the folds of the rows."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(sizes.n_features, sizes.n_features)) * np.logspace(0, -2, sizes.n_features)[:, None]
    X = rng.normal(size=(sizes.rows, sizes.n_features)) @ mixing
    weights = rng.normal(size=(sizes.n_features, sizes.targets)) / np.sqrt(sizes.n_features)
    Y = X @ weights / X.std() + rng.normal(size=(sizes.rows, sizes.targets))
    return X.astype(np.float32), Y, group_folds(np.arange(sizes.rows) // 20, sizes.folds)


def fit_ridge(sizes: Sizes, X: NDArray[Any], Y: NDArray[Any], folds: NDArray[np.int64]) -> None:
    RidgeProbe(np.logspace(-5, 1, sizes.penalties).tolist()).fit(X, Y, folds=folds)


def fit_logistic(sizes: Sizes, X: NDArray[Any], Y: NDArray[Any], folds: NDArray[np.int64]) -> None:
    labels = np.digitize(Y, np.quantile(Y, np.linspace(0, 1, sizes.n_classes + 1)[1:-1]))
    LogisticProbe(np.logspace(-4, -1, sizes.penalties).tolist()).fit(X, labels, folds=folds)


PROBES: dict[str, Callable[[Sizes, NDArray[Any], NDArray[Any], NDArray[np.int64]], None]] = {
    "ridge": fit_ridge,
    "logistic": fit_logistic,
}


def measure(fit: Callable[..., None], dial: str, base: Sizes, n_doublings: int, n_rounds: int) -> tuple[list[int], list[float]]:
    """Return the sizes of a dial, and the median seconds of each."""
    values = [getattr(base, dial) * 2**doubling for doubling in range(n_doublings + 1)]
    taken: list[list[float]] = [[] for _ in values]
    for _ in range(n_rounds):
        for seconds, value in zip(taken, values, strict=True):
            sizes = replace(base, **{dial: value})
            arrays = data(sizes)
            start = time.process_time()
            fit(sizes, *arrays)
            seconds.append(time.process_time() - start)
    return values, [float(np.median(seconds)) for seconds in taken]


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw seconds against each size, on logarithmic axes."""
    figure, axes = plt.subplots(
        len(results), len(DIALS), figsize=(11, 2.6 * len(results)), squeeze=False, sharey="row", layout="constrained"
    )
    for row, (name, dials) in zip(axes, results.items(), strict=True):
        for panel, dial in zip(row, DIALS, strict=True):
            sizes, seconds = dials[dial]["sizes"], dials[dial]["seconds"]
            panel.loglog(sizes, np.array(sizes) / sizes[0] * seconds[0], color="0.6", linestyle="--", label="a loop")
            panel.loglog(sizes, seconds, marker="o", label=f"exponent {dials[dial]['exponent']:.2f}")
            panel.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30, fontsize=8)
            panel.minorticks_off()
            panel.set_xlabel(dial)
            panel.legend(frameon=False, fontsize=8)
        row[0].set_ylabel(f"{name}: processor seconds")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, default=Path("probes_scaling.png"))
    parser.add_argument("--fast", action="store_true", help="small sizes, one round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    base = Sizes(rows=2000, n_features=32) if arguments.fast else Sizes()
    results: dict[str, dict[str, Any]] = {}
    for name, fit in PROBES.items():
        results[name] = {}
        for dial in DIALS:
            sizes, seconds = measure(fit, dial, base, 2 if arguments.fast else 3, 1 if arguments.fast else 3)
            exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
            results[name][dial] = {"sizes": sizes, "seconds": [round(s, 4) for s in seconds], "exponent": round(exponent, 2)}
    draw(results, arguments.figure)
    print(json.dumps({"benchmark": "probes_scaling", "versions": package_versions(), "threads": 1, "result": results}, indent=1))


if __name__ == "__main__":
    main()
