"""What agents reach with their presets: trains networks and evaluates them greedily on fresh episodes.

`python benchmarks/agents_learning.py [WORLD ...] [--algorithms pqn r2d2 drqn ppo] [--seeds 5] [--processes 2] [--fast]` prints one JSON
object: versions, the bounds of J* for every world that can be solved, and for every world, algorithm and seed the return of the final
network and of the best checkpoint with standard errors, the discounted return as a share of the upper bound of J*, and the processor
seconds of the training (its own evaluations included), of one thread each. The fresh episodes are none of those that chose the best
checkpoint. --fast trains one network each for a tenth of the steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed

from worldprobe.activations import package_versions
from worldprobe.agents import ALGORITHMS, evaluate_return, load_checkpoint, seeded_generator, train, training_preset
from worldprobe.worlds import WORLDS, PomdpSolution, World, make_world, solve_pomdp


def judge(path: Path, world: World, best: PomdpSolution | None) -> dict[str, Any]:
    """Evaluate one checkpoint on fresh episodes: many where the world is simulated in batches, fewer where it is not."""
    network, info = load_checkpoint(path)
    n_episodes = 4096 if "simulation" in world.gives else 256
    result = evaluate_return(network, world, n_episodes, seeded_generator(0, "fresh"))
    row: dict[str, Any] = {"step": info.step, "n_episodes": result.n_episodes}
    row |= {"return": round(result.mean_return, 3), "standard_error": round(result.standard_error, 3)}
    row |= {"discounted_return": round(result.mean_discounted_return, 4), "length": round(result.mean_length, 1)}
    if best is not None:
        row["percent_of_optimum"] = round(100 * result.mean_discounted_return / best.upper, 1)
        row["percent_standard_error"] = round(100 * result.discounted_standard_error / best.upper, 1)
    return row


def learn(name: str, algorithm: str, seed: int, share: float, best: PomdpSolution | None) -> dict[str, Any]:
    """Train and judge one network."""
    world, (network, config) = make_world(name), training_preset(name, algorithm)
    config = replace(config, total_steps=int(share * config.total_steps))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        start = time.process_time()
        result = train(world, network, config, directory, seed)
        seconds = time.process_time() - start
        judged = {which: judge(path, world, best) for which, path in (("best", result.best), ("final", result.final))}
    row: dict[str, Any] = {"world": name, "algorithm": algorithm, "seed": seed, "core": network.core, "hidden_size": network.hidden_size}
    row |= {"total_steps": config.total_steps, "cpu_seconds": round(seconds, 1), **judged}
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def solve(name: str) -> PomdpSolution | None:
    """Return J* where the world can be solved."""
    world = make_world(name)
    return solve_pomdp(world, frozenset(training_preset(name)[0].channels)) if "optimum" in world.gives else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="*", default=["tmaze"], help=f"of {', '.join(WORLDS)}; without any: tmaze")
    parser.add_argument("--algorithms", nargs="*", default=["pqn"], choices=list(ALGORITHMS), help="without any: pqn")
    parser.add_argument("--processes", type=int, default=1, help="networks trained at the same time")
    parser.add_argument("--seeds", type=int, default=5, help="networks per world and algorithm")
    parser.add_argument("--fast", action="store_true", help="a tenth of the steps, one network each")
    arguments = parser.parse_args()
    seeds, share = (1, 0.1) if arguments.fast else (arguments.seeds, 1.0)
    optima = {name: solve(name) for name in arguments.worlds}
    bounds = {name: {"lower": round(best.lower, 4), "upper": round(best.upper, 4)} for name, best in optima.items() if best is not None}
    cells = [(name, algorithm, seed) for name in optima for algorithm in arguments.algorithms for seed in range(seeds)]
    results = Parallel(n_jobs=arguments.processes)(delayed(learn)(*cell, share, optima[cell[0]]) for cell in cells)
    summary = {"benchmark": "agents_learning", "versions": package_versions(), "threads": 1, "optimum": bounds, "results": results}
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
