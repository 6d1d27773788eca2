"""What recording costs: an LSTM 256 acts in the T-Maze, with and without its hidden state going to disk.

`python benchmarks/recording_overhead.py [--fast]` prints one JSON object: versions, threads, and for 16 and 64 environments
the processor seconds of acting alone, of recording core.h as well, and of recording the exact beliefs on top, with the overheads in
percent. Each is the least of several runs of one thread (waiting, for the disk or for other programs, is not counted); the same
episodes are played every time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from worldprobe.activations import EpsilonGreedy, Moment, package_versions, record
from worldprobe.agents import Agent, NetworkConfig, make_network, seeded_generator
from worldprobe.worlds import TMaze, World


@dataclass(frozen=True)
class Plan:
    """What is timed."""

    hidden_size: int = 256
    n_envs: tuple[int, ...] = (16, 64)
    n_episodes: int = 1024
    repeats: int = 3


def without_beliefs() -> World:
    """Return the T-Maze as a world that gives no exact beliefs."""
    world = TMaze()
    world.gives = world.gives - {"belief"}
    return world


def act(agent: Agent, world: World, n_episodes: int, n_envs: int) -> int:
    """Play the episodes that `record` plays with seed 0 and keep nothing; return the number of steps."""
    driver = world.driver(n_envs, seeded_generator(0, "shard", 0, "world"))
    actor = EpsilonGreedy(agent, 0.1).begin(world, n_envs, seeded_generator(0, "shard", 0, "behaviour"))
    left, moment, n_steps = np.full(n_envs, n_episodes // n_envs), Moment.first(driver.observation), 0
    while (left > 0).any():
        action = actor(moment)
        step = driver.step(action)
        left[step.done.numpy()] -= 1
        moment = Moment.after(step, action)
        n_steps += n_envs
    return n_steps


def record_sites(agent: Agent, world: World, n_episodes: int, n_envs: int) -> int:
    """Record core.h of the same episodes and return the number of rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.wpr"
        recording = record(
            agent, world, path, EpsilonGreedy(agent, 0.1), n_episodes, 0, ("core.h",), n_envs=n_envs, episodes_per_shard=n_episodes
        )
        with recording:
            return recording.n_steps


def least_seconds(work: Callable[[], int], repeats: int) -> tuple[float, int]:
    """Return the least processor time of `repeats` runs and what the last one returned."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        n_steps = work()
        seconds.append(time.process_time() - start)
    return min(seconds), n_steps


def measure(plan: Plan, n_envs: int) -> dict[str, float]:
    """Time acting, recording h, and recording h with beliefs."""
    world, bare_world = TMaze(), without_beliefs()
    agent = make_network(world, NetworkConfig(core="lstm", hidden_size=plan.hidden_size), seed=0)
    acting, n_steps = least_seconds(partial(act, agent, world, plan.n_episodes, n_envs), plan.repeats)
    sites, n_rows = least_seconds(partial(record_sites, agent, bare_world, plan.n_episodes, n_envs), plan.repeats)
    beliefs, _ = least_seconds(partial(record_sites, agent, world, plan.n_episodes, n_envs), plan.repeats)
    return {
        "hidden_size": plan.hidden_size,
        "n_envs": n_envs,
        "n_steps": n_steps,
        "n_rows": n_rows,
        "acting_s": round(acting, 3),
        "recording_h_s": round(sites, 3),
        "recording_h_and_beliefs_s": round(beliefs, 3),
        "overhead_h_percent": round(100 * (sites / acting - 1), 1),
        "overhead_h_and_beliefs_percent": round(100 * (beliefs / acting - 1), 1),
        "acting_steps_per_s": round(n_steps / acting),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="a tenth of the episodes, once")
    plan = Plan(n_episodes=128, repeats=1) if parser.parse_args().fast else Plan()
    torch.set_num_threads(1)
    results = [measure(plan, n_envs) for n_envs in plan.n_envs]
    print(json.dumps({"benchmark": "recording_overhead", "versions": package_versions(), "threads": 1, "results": results}, indent=1))


if __name__ == "__main__":
    main()
