"""How fast MLP probes are trained together, beside a loop over scikit-learn's and beside the matrix products they are made of.

`python -m benchmarks.mlp_speed [--fast]` trains 64 heads (8 horizons of the T-Maze position in each of 8 folds, 64 hidden units) on
recorded hidden states of a GRU of 256 units (46,000 rows), all together by `MLPProbe.fit_folds`, on two threads; beside it stand
`MLPClassifier`s of equal units, batches and epochs, one after the other on two threads, and two at a time on one thread each (joblib). Some
heads are trained by scikit-learn, and their mean time counts for all. It prints one JSON object: wall seconds, ratios, the share of the
rate of a large matrix product measured in the same run, and held-out losses.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from benchmarks.probes_speed import FAST_LOGISTIC, LogisticPlan, log_loss, recorded
from worldprobe.activations import package_versions
from worldprobe.probes import MLPProbe, group_folds


@dataclass(frozen=True)
class MlpPlan:
    """Sizes of the benchmark."""

    data: LogisticPlan = field(default_factory=LogisticPlan)
    n_folds: int = 8
    n_units: int = 64
    n_epochs: int = 20
    batch_size: int = 256
    n_compared: int = 4
    """Heads that scikit-learn is run on; two of them at a time for the second peer."""


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the wall time of some work, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def product_rate(n: int = 2048) -> float:
    """Return the floating-point operations per second of a float32 matrix product."""
    A, B = torch.randn(n, n), torch.randn(n, n)
    return 2 * n**3 / min(seconds(partial(torch.mm, A, B))[0] for _ in range(8))


def fit_peer(Z: NDArray[Any], labels: NDArray[Any], plan: MlpPlan, n_threads: int) -> MLPClassifier:
    """Train one head by scikit-learn for all epochs."""
    with threadpool_limits(n_threads):
        peer = MLPClassifier((plan.n_units,), batch_size=plan.batch_size, max_iter=plan.n_epochs, learning_rate_init=1e-3, tol=0.0)
        return peer.set_params(n_iter_no_change=plan.n_epochs + 1, alpha=1e-4, random_state=0).fit(Z, labels)


def measure(plan: MlpPlan) -> dict[str, Any]:
    """Time all of them in one run."""
    X, labels, groups = recorded(plan.data)
    folds, n_horizons = group_folds(groups, plan.n_folds), labels.shape[1]
    probe = MLPProbe(
        hidden=(plan.n_units,), loss="log", learning_rate=1e-3, batch_size=plan.batch_size, max_epochs=plan.n_epochs, patience=plan.n_epochs
    )
    compared = [
        (place % plan.n_folds, horizon) for place, horizon in enumerate(np.linspace(0, n_horizons - 1, plan.n_compared).astype(int))
    ]
    rate = product_rate()
    ours, probes = seconds(partial(probe.fit_folds, X, labels, folds, groups))
    again, _ = seconds(partial(probe.fit_folds, X, labels, folds, groups))
    sets, heads = [], []
    for fold, horizon in compared:
        train = np.flatnonzero(folds != fold)
        Z = ((X - X[train].mean(axis=0)) / X[train].std(axis=0)).astype(np.float32)
        # `MLPProbe` keeps a fifth of the training groups to stop by: scikit-learn is given as many rows to learn from.
        sets.append((Z, train[: round(len(train) * (1 - probe.validation_fraction))], horizon, fold))
    serial = []
    for Z, train, horizon, fold in sets:
        took, peer = seconds(partial(fit_peer, Z[train], labels[train, horizon], plan, 2))
        serial.append(took)
        held = folds == fold
        losses = (
            log_loss(probes[fold].predict_proba(X[held])[horizon], probes[fold].classes_[horizon], labels[held, horizon]),
            log_loss(peer.predict_proba(Z[held]), peer.classes_, labels[held, horizon]),
        )
        heads.append({"fold": int(fold), "horizon": int(horizon), "ours_nats": losses[0], "sklearn_nats": losses[1]})
    jobs = [delayed(fit_peer)(Z[train], labels[train, horizon], plan, 1) for Z, train, horizon, _ in sets]
    Parallel(n_jobs=2)(delayed(abs)(1) for _ in range(2))
    pairs, _ = seconds(partial(Parallel(n_jobs=2), jobs))
    n_heads, width = plan.n_folds * n_horizons, len(probes[0].classes_[0])
    n_steps = plan.n_epochs * -(-len(sets[0][1]) // plan.batch_size)
    n_operations = 2 * n_heads * plan.batch_size * plan.n_units * (2 * X.shape[1] + 3 * width) * n_steps
    best = min(ours, again)
    return {
        **asdict(plan),
        "n_rows": len(X),
        "ours_s": [ours, again],
        "serial_s": float(np.mean(serial)) * n_heads,
        "joblib_2_s": pairs / len(sets) * n_heads,
        "serial_over_ours": float(np.mean(serial)) * n_heads / best,
        "joblib_2_over_ours": pairs / len(sets) * n_heads / best,
        "product_gflops": rate / 1e9,
        "share_of_product_rate": n_operations / best / rate,
        "worst_excess_nats": max(head["ours_nats"] - head["sklearn_nats"] for head in heads),
        "heads": heads,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="small sizes")
    plan = MlpPlan(FAST_LOGISTIC, n_folds=3, n_epochs=3, n_compared=2) if parser.parse_args().fast else MlpPlan()
    torch.set_num_threads(2)
    print(json.dumps({"benchmark": "mlp_speed", "versions": package_versions(), "threads": 2, "result": measure(plan)}, indent=1))


if __name__ == "__main__":
    main()
