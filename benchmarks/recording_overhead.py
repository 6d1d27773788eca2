"""What recording costs: an LSTM acts in the T-Maze, with and without its hidden state and cell going to disk.

`python benchmarks/recording_overhead.py [--hidden-sizes 256 1024] [--n-shards 8] [--only-state] [--fast]` prints one JSON object: versions,
threads, and for 256 and 1024 units and 16 and 64 environments what it costs, over acting alone, to record core.h and core.c as well (taken
while acting), the gates on top (a batched pass after the rollout), and the exact beliefs on top; in percent of the time of the acting
thread, of all threads together (the one that completes and writes a shard runs beside the playing of the next), and of the wall. Each is
the median over rounds of the ratio to acting alone in the same round, after a round that is not counted; the same episodes are played every
time. The wall includes the last shard, beside which nothing is left to be done. 256 units take 3 minutes, 1024 half an hour.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worldprobe.activations import EpsilonGreedy, Moment, package_versions, record
from worldprobe.agents import Agent, NetworkConfig, make_network, seeded_generator
from worldprobe.worlds import TMaze, World

HELD = ("core.h", "core.c")
GATES = ("core.0.gates.input", "core.0.gates.forget", "core.0.gates.cell", "core.0.gates.output")


@dataclass(frozen=True)
class Plan:
    """What is timed."""

    n_envs: tuple[int, ...] = (16, 64)
    n_shards: int = 8
    episodes_per_shard: int = 512
    repeats: int = 3
    only_state: bool = False


def without_beliefs() -> World:
    """Return the T-Maze as a world that gives no exact beliefs."""
    world = TMaze()
    world.gives = world.gives - {"belief"}
    return world


def act(agent: Agent, world: World, plan: Plan, n_envs: int) -> int:
    """Play the episodes that `record` plays with seed 0 and keep nothing; return the number of steps."""
    n_steps = 0
    for shard in range(plan.n_shards):
        driver = world.driver(n_envs, seeded_generator(0, "shard", shard, "world"))
        actor = EpsilonGreedy(agent, 0.1).begin(world, n_envs, seeded_generator(0, "shard", shard, "behaviour"))
        left, moment = np.full(n_envs, plan.episodes_per_shard // n_envs), Moment.first(driver.observation)
        while (left > 0).any():
            action = actor(moment)
            step = driver.step(action)
            left[step.done.numpy()] -= 1
            moment = Moment.after(step, action)
            n_steps += n_envs
    return n_steps


def record_sites(agent: Agent, world: World, sites: tuple[str, ...], plan: Plan, n_envs: int, folder: Path) -> int:
    """Record sites of the same episodes into an empty folder and return the number of rows."""
    n_episodes, per_shard = plan.n_shards * plan.episodes_per_shard, plan.episodes_per_shard
    behaviour = EpsilonGreedy(agent, 0.1)
    with record(
        agent, world, folder / "own.wpr", behaviour, n_episodes, 0, sites, n_envs=n_envs, episodes_per_shard=per_shard
    ) as recording:
        return recording.n_steps


CLOCKS = {"": time.thread_time, "_all_threads": time.process_time, "_wall": time.perf_counter}
"""What is read of the clock: the thread that acts, all threads (the one that writes as well), and the wall."""


def seconds_of(works: Sequence[Callable[[Path], int]], repeats: int) -> tuple[NDArray[np.float64], list[int]]:
    """Return the seconds of every round, work and clock after a first one (repeats, works, clocks), and what the works returned."""
    seconds, returned = np.zeros((repeats + 1, len(works), len(CLOCKS))), [0] * len(works)
    for turn in range(repeats + 1):
        for place, work in enumerate(works):
            with tempfile.TemporaryDirectory() as folder:
                start = [clock() for clock in CLOCKS.values()]
                returned[place] = work(Path(folder))
                seconds[turn, place] = [clock() - began for clock, began in zip(CLOCKS.values(), start, strict=True)]
    return seconds[1:], returned


def measure(plan: Plan, hidden_size: int, n_envs: int) -> dict[str, float]:
    """Time acting, recording h and c, the gates on top, and the beliefs on top of h and c."""
    world, bare_world = TMaze(), without_beliefs()
    agent = make_network(world, NetworkConfig(core="lstm", hidden_size=hidden_size), seed=0)
    works: list[Callable[[Path], int]] = [
        lambda _: act(agent, world, plan, n_envs),
        partial(record_sites, agent, bare_world, HELD, plan, n_envs),
    ]
    if not plan.only_state:
        works.append(partial(record_sites, agent, bare_world, HELD + GATES, plan, n_envs))
        works.append(partial(record_sites, agent, world, HELD, plan, n_envs))
    seconds, (n_steps, n_rows, *_) = seconds_of(works, plan.repeats)
    percent = 100 * (np.median(seconds[:, 1:] / seconds[:, :1], axis=0) - 1)
    overheads = {
        f"{name}{clock}_percent": round(float(value), 1)
        for name, row in zip(("h_and_c", "with_gates", "with_beliefs"), percent, strict=False)
        for clock, value in zip(CLOCKS, row, strict=True)
    }
    acting = float(np.median(seconds[:, 0, 0]))
    sizes = {"hidden_size": hidden_size, "n_envs": n_envs, "n_steps": n_steps, "n_rows": n_rows}
    return {**sizes, "acting_s": round(acting, 3), "acting_steps_per_s": round(n_steps / acting), **overheads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="a sixteenth of the episodes")
    parser.add_argument("--hidden-sizes", type=int, nargs="*", default=[256, 1024], help="units; 256 and 1024")
    parser.add_argument("--n-shards", type=int, default=Plan.n_shards, help="shards of a recording; 8")
    parser.add_argument("--only-state", action="store_true", help="neither gates nor beliefs")
    arguments = parser.parse_args()
    plan = Plan(n_shards=2, episodes_per_shard=128, repeats=2) if arguments.fast else Plan(n_shards=arguments.n_shards)
    plan = replace(plan, only_state=arguments.only_state)
    torch.set_num_threads(1)
    results = []
    for hidden_size in arguments.hidden_sizes:
        for n_envs in plan.n_envs:
            results.append(measure(plan, hidden_size, n_envs))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print(json.dumps({"benchmark": "recording_overhead", "versions": package_versions(), "threads": 1, "results": results}, indent=1))


if __name__ == "__main__":
    main()
