"""What the Gymnasium adapter costs: steps per second of raw environments, and of the same ones through the driver.

`python benchmarks/gymnasium_overhead.py [--fast]` prints one JSON object: versions, and for each world the rate of the bare
environment in a loop (uniform actions, reset at ends), of the driver at 16 environments, their ratio, and forks per second by either
way of copying. Raw and driven runs alternate; rates are medians per processor second on one thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Literal

import torch

from worldprobe.worlds import GymnasiumDriver, GymnasiumWorld, minigrid_memory, popgym_repeat

WORLDS: dict[str, Callable[[], GymnasiumWorld]] = {"minigrid-memory": minigrid_memory, "popgym-repeat": popgym_repeat}
WAYS: tuple[Literal["replay", "deepcopy"], ...] = ("replay", "deepcopy")
N_ENVS = 16
FORK_AT = 30
"""Age of the episodes that are forked: replay costs as many steps."""


@dataclass(frozen=True)
class Plan:
    """What is timed."""

    n_steps: int = 16_000
    repeats: int = 7
    n_forks: int = 320


def rate(run: Callable[[], int]) -> float:
    """Return how much `run` did per processor second."""
    start = time.process_time()
    amount = run()
    return amount / (time.process_time() - start)


def step_raw(world: GymnasiumWorld, n_steps: int) -> int:
    """Step one bare environment."""
    environment = world.env_fn()
    environment.reset(seed=0)
    actions = torch.randint(world.n_actions, (n_steps,), generator=torch.Generator().manual_seed(0)).tolist()
    for seed, action in enumerate(actions):
        _, _, terminated, truncated, _ = environment.step(world.action_numbers[action])
        if terminated or truncated:
            environment.reset(seed=seed)
    return n_steps


def step_driver(world: GymnasiumWorld, n_steps: int) -> int:
    """Step the same number through the driver."""
    driver = world.driver(N_ENVS, torch.Generator().manual_seed(0))
    actions = torch.randint(world.n_actions, (n_steps // N_ENVS, N_ENVS), generator=torch.Generator().manual_seed(0))
    for action in actions:
        driver.step(action)
    return actions.numel()


def fork_rate(world: GymnasiumWorld, way: Literal["replay", "deepcopy"], n_forks: int) -> float:
    """Copy environments that are `FORK_AT` steps into their episodes."""
    world.copy_by = way
    driver = world.driver(N_ENVS, torch.Generator().manual_seed(0))
    assert isinstance(driver, GymnasiumDriver)
    for _ in range(FORK_AT):
        driver.step(torch.zeros(N_ENVS, dtype=torch.int64))

    def fork() -> int:
        for _ in range(n_forks // N_ENVS):
            driver.fork(torch.arange(N_ENVS))
        return n_forks

    return rate(fork)


def measure_world(world: GymnasiumWorld, plan: Plan) -> dict[str, object]:
    """Time one world; its raw and driven runs take turns, so that both meet the same machine."""
    step_raw(world, plan.n_steps // 10)
    pairs = [(rate(lambda: step_raw(world, plan.n_steps)), rate(lambda: step_driver(world, plan.n_steps))) for _ in range(plan.repeats)]
    raw, driven = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratios = sorted(b / a for a, b in pairs)
    return {
        "raw_steps_per_second": round(raw),
        "driver_steps_per_second": round(driven),
        "driver_over_raw": {
            "median": round(statistics.median(ratios), 3),
            "smallest": round(ratios[0], 3),
            "largest": round(ratios[-1], 3),
        },
        "forks_per_second": {way: round(fork_rate(world, way, plan.n_forks)) for way in WAYS},
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="a few seconds, rough figures")
    torch.set_num_threads(1)
    plan = Plan(n_steps=3200, repeats=3, n_forks=32) if parser.parse_args().fast else Plan()
    packages = ("worldprobe", "torch", "gymnasium", "numpy", "minigrid", "popgym")
    result = {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "threads": torch.get_num_threads(),
        "n_envs": N_ENVS,
        "plan": asdict(plan),
        "worlds": {name: measure_world(build(), plan) for name, build in WORLDS.items()},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
