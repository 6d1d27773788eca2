"""How fast worlds step: environment steps per second of one thread, through the driver that resets episodes by itself.

`python benchmarks/worlds_speed.py [--fast]` prints one JSON object: versions, the T-Maze at several numbers of environments, every
world that is a pure function at 64 and at 256, and side by side at 256 the same T-Maze drawn with `torch.multinomial` and a plain T-Maze in
Gymnasium's `SyncVectorEnv`; then exact filtering (histories updated per second) and the seconds that solving takes. Rates are the best
of several runs, per processor second ("cpu", which other programs on the machine hardly touch) and per second on the clock ("wall").
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldprobe.worlds import WORLDS, FourRooms, State, TMaze, VectorDriver, World, make_world, solve_pomdp


@dataclass(frozen=True)
class Plan:
    """What is timed."""

    n_envs: tuple[int, ...] = (16, 64, 256, 1024)
    n_steps: int = 4000
    repeats: int = 5
    grid_beliefs: int = 1000
    """Number of belief points that four-rooms is solved with."""


@dataclass(frozen=True)
class Rate:
    """Something per second."""

    cpu: int
    wall: int


def best_rate(run: Callable[[], int], repeats: int) -> dict[str, int]:
    """Return the best rate of `run`, which returns how much it did; the first run only warms up."""
    run()
    rates = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        amount = run()
        rates.append((amount / (time.process_time() - cpu), amount / (time.perf_counter() - wall)))
    return asdict(Rate(*(int(max(rate)) for rate in zip(*rates, strict=True))))


class MultinomialTMaze(TMaze):
    """The T-Maze that draws each next state from its dense row of probabilities."""

    def step(self, state: State, action: Tensor, generator: torch.Generator) -> tuple[State, Tensor, Tensor]:
        """Move every state by its action."""
        here = state["state"]
        target = torch.multinomial(self.tables.transition[action, here], 1, generator=generator).squeeze(1)
        return {"state": target}, self.tables.reward[action, here, target].float(), self.tables.terminal[target]


class PlainTMaze(gymnasium.Env[NDArray[np.float32], np.int64]):
    """The T-Maze of length 10 with a fifth of random actions, one environment, as one writes it in Gymnasium."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(4)

    def __init__(self, length: int = 10, stochasticity: float = 0.2, time_limit: int = 38) -> None:
        self.length, self.stochasticity, self.time_limit = length, stochasticity, time_limit

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.goal, self.position, self.t = int(self.np_random.integers(2)), 0, 0
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Act once."""
        self.t += 1
        executed = int(self.np_random.integers(4)) if self.np_random.random() < self.stochasticity else int(action)
        if self.position == self.length and executed in (1, 3):
            reward = 4.0 if (executed == 3) == bool(self.goal) else -0.1
            return self._observation(), reward, True, False, {}
        moved = min(max(self.position + {0: 1, 2: -1}.get(executed, 0), 0), self.length)
        reward = -0.1 if moved == self.position else 0.0
        self.position = moved
        return self._observation(), reward, False, self.t >= self.time_limit, {}

    def _observation(self) -> NDArray[np.float32]:
        observation = np.zeros(4, np.float32)
        observation[self.goal if self.position == 0 else 3 if self.position == self.length else 2] = 1.0
        return observation


def drive(driver: VectorDriver, actions: Tensor, n_steps: int) -> int:
    """Step the driver and return the number of environment steps."""
    for t in range(n_steps):
        driver.step(actions[t % len(actions)])
    return n_steps * driver.n_envs


def drive_gymnasium(environments: gymnasium.vector.VectorEnv[Any, Any, Any], actions: NDArray[np.int64], n_steps: int) -> int:
    """Step the vector of environments and return the number of environment steps."""
    for t in range(n_steps):
        environments.step(actions[t % len(actions)])
    return n_steps * environments.num_envs


def explore(world: World, n_steps: int, n_envs: int) -> Tensor:
    """Return actions of undirected exploration, int64 (n_steps, n_envs)."""
    weights = torch.tensor(world.exploration)
    drawn = torch.multinomial(weights, n_steps * n_envs, replacement=True, generator=torch.Generator().manual_seed(0))
    return drawn.view(n_steps, n_envs)


def driver_rate(world: World, n_envs: int, plan: Plan) -> dict[str, int]:
    """Time a world of pure functions."""
    driver = VectorDriver(world, n_envs, torch.Generator().manual_seed(0))
    return best_rate(partial(drive, driver, explore(world, 64, n_envs), max(plan.n_steps * 64 // n_envs, 100)), plan.repeats)


def gymnasium_rate(n_envs: int, plan: Plan) -> dict[str, int]:
    """Time the plain T-Maze in Gymnasium."""
    environments = gymnasium.vector.SyncVectorEnv([PlainTMaze] * n_envs)
    environments.reset(seed=0)
    return best_rate(partial(drive_gymnasium, environments, explore(TMaze(), 64, n_envs).numpy(), plan.n_steps // 40), plan.repeats)


def filter_rate(world: World, n: int, plan: Plan) -> dict[str, int]:
    """Time one exact update of `n` beliefs with every channel."""
    generator = torch.Generator().manual_seed(0)
    belief_filter = world.belief_filter(frozenset({"observation", "action", "reward"}))
    state = world.reset(n, generator)
    belief = belief_filter.start(world.observe(state, generator), generator)
    action = explore(world, 1, n)[0]
    state, reward, terminated = world.step(state, action, generator)
    observation = world.observe(state, generator)

    def update() -> int:
        for _ in range(plan.n_steps // 40):
            belief_filter.update(belief, action, reward, observation, terminated, generator)
        return n * (plan.n_steps // 40)

    return best_rate(update, plan.repeats)


def solving_time(world: World, n_beliefs: int) -> dict[str, object]:
    """Time the optimum of an agent that receives observations and its actions."""
    start = time.process_time()
    solution = solve_pomdp(world, frozenset({"observation", "action"}), n_beliefs=n_beliefs)
    return {"cpu_seconds": round(time.process_time() - start, 2), "lower": solution.lower, "upper": solution.upper, "exact": solution.exact}


def measure(plan: Plan) -> dict[str, object]:
    """Run everything."""
    pure = {name: world for name in WORLDS if "simulation" in (world := make_world(name)).gives}
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("worldprobe", "torch", "gymnasium", "numpy")},
        },
        "threads": torch.get_num_threads(),
        "plan": asdict(plan),
        "tmaze_steps_per_second": {n: driver_rate(TMaze(), n, plan) for n in plan.n_envs},
        "worlds_at_64": {name: driver_rate(world, 64, plan) for name, world in pure.items()},
        "worlds_at_256": {name: driver_rate(world, 256, plan) for name, world in pure.items()},
        "tmaze_peers_at_256": {"multinomial": driver_rate(MultinomialTMaze(), 256, plan), "gymnasium_sync": gymnasium_rate(256, plan)},
        "filter_updates_per_second_at_256": {"tmaze": filter_rate(TMaze(), 256, plan), "four-rooms": filter_rate(FourRooms(), 256, plan)},
        "optimum": {"tmaze": solving_time(TMaze(), plan.grid_beliefs), "four-rooms": solving_time(FourRooms(), plan.grid_beliefs)},
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="a few seconds, rough figures")
    torch.set_num_threads(1)
    plan = Plan(n_envs=(256,), n_steps=800, repeats=2, grid_beliefs=100) if parser.parse_args().fast else Plan()
    print(json.dumps(measure(plan), indent=2))


if __name__ == "__main__":
    main()
