"""How fast agents learn: environment steps per processor second of one thread, acting and learning together.

`python benchmarks/pqn_speed.py [--fast]` prints one JSON object: versions, and for LSTM and GRU cores of 256 and 64 units in the T-Maze
our PQN, which cuts rollouts at resets and runs the pieces in one fused sequence per minibatch, beside a plain loop in the manner of the
public single-file recurrent PQN: the same encoder, core, head and number of weights, but the core is called once per step in the update
too, with its state masked by resets, and the targets are built once per rollout from the acting network's values. World, batch shape,
epochs, minibatches, optimiser and clipping are the same. The plain loop does less: it takes truncations for terminations and measures
nothing.
At 16 and 64 environments x 64 steps, 4 epochs, LSTM 256, there are also sb3-contrib's RecurrentPPO as it comes and with one shared
LSTM, in the same driver with the same inputs, batches and epochs, and the kernels alone: as many calls of torch's LSTM at the padded
shapes of a rollout, forward and backward, and of its cell for acting; and how many rows run per step of the environments, and per row
that is needed (steps, and what followed each piece): the padding.
All take turns; rates are the best of the turns, ratios are medians over turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from worldprobe.activations import package_versions
from worldprobe.agents import Actor, NetworkConfig, PqnConfig, PqnLearner, agent_inputs, count_inputs, make_network, seeded_generator
from worldprobe.agents._segments import Segments
from worldprobe.worlds import Driver, TMaze

EPSILON, LEARNING_RATE = 0.3, 1e-3
TD_LAMBDA, MAX_GRADIENT_NORM = PqnConfig.td_lambda, PqnConfig.max_gradient_norm
CHANNELS = frozenset(NetworkConfig.channels)


@dataclass(frozen=True)
class Shape:
    """Batch shape and effort of an update."""

    n_envs: int
    n_steps: int
    n_epochs: int
    n_minibatches: int


SHAPES = (Shape(64, 32, 2, 4), Shape(8, 128, 4, 4))
"""Our default, and that of the public single-file recurrent PQN."""
PEER_SHAPES = (Shape(16, 64, 4, 4), Shape(64, 64, 4, 4))
"""At which recurrent PPO of sb3-contrib and the bare kernels are measured, LSTM 256."""


class PlainNetwork(nn.Module):
    """Encoder -> core -> head on the library's own layers."""

    def __init__(self, core: str, input_size: int, hidden_size: int, n_actions: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(input_size, 64), nn.LayerNorm(64), nn.ReLU())
        self.core = nn.LSTM(64, hidden_size) if core == "lstm" else nn.GRU(64, hidden_size)
        self.head = nn.Linear(hidden_size, n_actions)
        self.n_leaves = 2 if core == "lstm" else 1

    def initial_state(self, n: int) -> tuple[Tensor, ...]:
        """Return zeros: (h, c) of an LSTM, (h,) of a GRU."""
        return tuple(torch.zeros(1, n, self.core.hidden_size) for _ in range(self.n_leaves))

    def forward(self, inputs: Tensor, done: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return Q (T, n, A) and the last state: one call of the core per step, its state zeroed where `done` (T, n) holds."""
        hidden = []
        goes_on = (~done).float().unsqueeze(2)
        for x, mask in zip(self.encoder(inputs), goes_on, strict=True):
            masked = tuple(mask * leaf for leaf in state)
            y, after = self.core(x.unsqueeze(0), masked if self.n_leaves == 2 else masked[0])
            state = after if self.n_leaves == 2 else (after,)
            hidden.append(y)
        q: Tensor = self.head(torch.cat(hidden))
        return q, state


class PlainPqn:
    """A recurrent PQN as a competent person writes it down in one file."""

    def __init__(self, network: PlainNetwork, driver: Driver, shape: Shape) -> None:
        self.network, self.driver, self.shape, self.discount = network, driver, shape, driver.world.discount
        self.optimizer = torch.optim.RAdam(network.parameters(), lr=LEARNING_RATE)
        self.generator = torch.Generator().manual_seed(0)
        self.state = network.initial_state(shape.n_envs)
        self.done = torch.ones(shape.n_envs, dtype=torch.bool)
        self.inputs = self.receive(driver.observation, torch.full((shape.n_envs,), -1))

    def receive(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the network's inputs."""
        return agent_inputs(observation, action, torch.zeros(len(action)), CHANNELS, self.driver.world.n_actions)

    def q_values(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return Q (n, A) of what was just received, and the state after it."""
        q, state = self.network(self.inputs.unsqueeze(0), self.done.unsqueeze(0), self.state)
        return q.squeeze(0), state

    @torch.no_grad()
    def rollout(self) -> tuple[dict[str, Tensor], Tensor]:
        """Act, keep what every step gave, and return it with its Q(lambda) targets."""
        rows: dict[str, list[Tensor]] = {name: [] for name in ("inputs", "done", "action", "reward", "value")}
        for _ in range(self.shape.n_steps):
            q, self.state = self.q_values()
            explores = torch.rand(len(q), generator=self.generator) < EPSILON
            action = torch.where(explores, torch.randint(q.shape[1], (len(q),), generator=self.generator), q.argmax(1))
            step = self.driver.step(action)
            for name, value in zip(rows, (self.inputs, self.done, action, step.reward, q.amax(1)), strict=True):
                rows[name].append(value)
            self.done = step.terminated | step.truncated
            self.inputs = self.receive(step.observation, action.masked_fill(self.done, -1))
        return {name: torch.stack(values) for name, values in rows.items()}, self.targets(rows)

    def targets(self, rows: dict[str, list[Tensor]]) -> Tensor:
        """Return G_t = r_t + gamma (1 - done_{t+1}) [(1 - lambda) v_{t+1} + lambda G_{t+1}], G = v at the end."""
        value = following = self.q_values()[0].amax(1)
        done, targets = self.done, []
        for t in reversed(range(self.shape.n_steps)):
            following = rows["reward"][t] + self.discount * (~done) * ((1 - TD_LAMBDA) * value + TD_LAMBDA * following)
            value, done = rows["value"][t], rows["done"][t]
            targets.append(following)
        return torch.stack(targets[::-1])

    def update(self) -> None:
        """Act once and take all optimiser steps."""
        first = self.state
        rows, targets = self.rollout()
        for _ in range(self.shape.n_epochs):
            for envs in torch.randperm(self.shape.n_envs, generator=self.generator).chunk(self.shape.n_minibatches):
                state = tuple(leaf[:, envs] for leaf in first)
                q, _ = self.network(rows["inputs"][:, envs], rows["done"][:, envs], state)
                taken = q.gather(2, rows["action"][:, envs].unsqueeze(2)).squeeze(2)
                self.optimizer.zero_grad()
                torch.autograd.backward((taken - targets[:, envs]).square().mean() / 2)
                nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
                self.optimizer.step()


def ours(core: str, hidden_size: int, shape: Shape) -> Callable[[], None]:
    """Return one update of ours."""
    world = TMaze()
    network = make_network(world, NetworkConfig(core=core, hidden_size=hidden_size), seed=0)
    actor = Actor(network, world.driver(shape.n_envs, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    learner = PqnLearner(network, PqnConfig(**asdict(shape)), world.discount, seeded_generator(0, "minibatches"))
    return lambda: learner.update(actor.collect(shape.n_steps, EPSILON), LEARNING_RATE)


def plain(core: str, hidden_size: int, shape: Shape) -> Callable[[], None]:
    """Return one update of the plain loop."""
    world = TMaze()
    network = PlainNetwork(core, count_inputs(world, CHANNELS), hidden_size, world.n_actions)
    return PlainPqn(network, world.driver(shape.n_envs, seeded_generator(0, "driver")), shape).update


class DriverEnvs(VecEnv):  # type: ignore[misc]  # stable-baselines3 is not typed here
    """A driver as environments of stable-baselines3: the same world, stepped as one batch, with the same inputs."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        size = count_inputs(driver.world, CHANNELS)
        super().__init__(driver.n_envs, spaces.Box(-1, 1, (size,)), spaces.Discrete(driver.world.n_actions))

    def inputs(self, observation: Tensor, action: Tensor) -> np.ndarray[Any, Any]:
        """Return what our own networks receive."""
        received: np.ndarray[Any, Any] = agent_inputs(
            observation, action, torch.zeros(len(action)), CHANNELS, self.driver.world.n_actions
        ).numpy()
        return received

    def reset(self) -> np.ndarray[Any, Any]:
        """Begin anew."""
        return self.inputs(self.driver.reset(), torch.full((self.num_envs,), -1))

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Take the actions."""
        self.action = torch.from_numpy(actions)

    def step_wait(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], list[dict[str, Any]]]:
        """Step the driver."""
        step = self.driver.step(self.action)
        done = step.terminated | step.truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if step.done.numel():
            last = self.inputs(step.final_observation, self.action[step.done])
            for row, env in enumerate(step.done.tolist()):
                infos[env] = {"terminal_observation": last[row], "TimeLimit.truncated": bool(step.truncated[env])}
        return self.inputs(step.observation, self.action.masked_fill(done, -1)), step.reward.numpy(), done.numpy(), infos

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: object = None) -> list[Any]:
        """Return that there is none."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: object, indices: object = None) -> None:
        """Refuse."""
        raise NotImplementedError

    def env_method(self, method_name: str, *_: object, indices: object = None, **__: object) -> list[Any]:
        """Refuse."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: object, indices: object = None) -> list[bool]:
        """Say no."""
        return [False] * self.num_envs


def recurrent_ppo(hidden_size: int, shape: Shape, *, shared: bool) -> Callable[[], None]:
    """Return one update of sb3-contrib's RecurrentPPO: as it comes, or with one LSTM for actor and critic."""
    lstm = {"lstm_hidden_size": hidden_size} | ({"shared_lstm": True, "enable_critic_lstm": False} if shared else {})
    envs = DriverEnvs(TMaze().driver(shape.n_envs, seeded_generator(0, "driver")))
    n_rows = shape.n_envs * shape.n_steps
    model = RecurrentPPO(
        "MlpLstmPolicy", envs, n_steps=shape.n_steps, batch_size=n_rows // shape.n_minibatches, n_epochs=shape.n_epochs, policy_kwargs=lstm
    )
    return lambda: model.learn(n_rows, reset_num_timesteps=False)


def bare(hidden_size: int, shape: Shape) -> tuple[Callable[[], None], dict[str, float]]:
    """Return the kernels alone of one update of ours (acting and learning, at the padded shapes of a rollout), and how much is padded."""
    world = TMaze()
    network = make_network(world, NetworkConfig(core="lstm", hidden_size=hidden_size), seed=0)
    actor = Actor(network, world.driver(shape.n_envs, seeded_generator(0, "driver")), seeded_generator(0, "exploration"))
    actor.collect(shape.n_steps, EPSILON)
    segments = Segments(actor.collect(shape.n_steps, EPSILON), shape.n_minibatches)
    parts = torch.arange(shape.n_envs).chunk(shape.n_minibatches)
    batches = [segments.batch(envs) for envs in parts]
    sizes = [batch.inputs.shape[:2] for batch in batches]
    lstm, cell = nn.LSTM(64, hidden_size), nn.LSTMCell(64, hidden_size)
    state = (torch.zeros(shape.n_envs, hidden_size), torch.zeros(shape.n_envs, hidden_size))

    def kernels() -> None:
        with torch.no_grad():
            for _ in range(shape.n_steps):
                cell(torch.zeros(shape.n_envs, 64), state)
        for _ in range(shape.n_epochs):
            for size in sizes:
                torch.autograd.backward(lstm(torch.zeros(*size, 64, requires_grad=True))[0].sum())

    n_rows, n_needed = sum(height * n_lanes for height, n_lanes in sizes), sum(len(batch.cell) for batch in batches)
    padding = {
        "rows_per_step": round(n_rows / (shape.n_envs * shape.n_steps), 2),
        "rows_per_row_that_is_needed": round(n_rows / n_needed, 2),
    }
    return kernels, padding


def rate(update: Callable[[], None], n_steps: int, seconds: float) -> float:
    """Return environment steps per processor second over at least so many seconds."""
    start, count = time.process_time(), 0
    while (elapsed := time.process_time() - start) < seconds:
        update()
        count += 1
    return count * n_steps / elapsed


def compare(updates: dict[str, Callable[[], None]], shape: Shape, seconds: float, repeats: int) -> dict[str, object]:
    """Time all in turns; the first is compared with every other."""
    for update in updates.values():
        update()
    n_steps = shape.n_envs * shape.n_steps
    turns = [{name: rate(update, n_steps, seconds) for name, update in updates.items()} for _ in range(repeats)]
    first, *others = updates
    result: dict[str, object] = {**asdict(shape)}
    result |= {f"{name}_steps_per_s": round(max(turn[name] for turn in turns)) for name in updates}
    return result | {f"ratio_to_{name}": round(statistics.median(turn[first] / turn[name] for turn in turns), 2) for name in others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="one short turn each")
    seconds, repeats = (0.5, 1) if parser.parse_args().fast else (3.0, 3)
    torch.set_num_threads(1)
    results = []
    for core, size in [("lstm", 256), ("lstm", 64), ("gru", 256), ("gru", 64)]:
        for shape in SHAPES:
            updates = {"ours": ours(core, size, shape), "plain": plain(core, size, shape)}
            results.append({"core": core, "hidden_size": size, **compare(updates, shape, seconds, repeats)})
    for shape in PEER_SHAPES:
        kernels, padding = bare(256, shape)
        updates = {"ours": ours("lstm", 256, shape), "plain": plain("lstm", 256, shape), "kernels": kernels}
        updates |= {f"recurrent_ppo{'_shared' * shared}": recurrent_ppo(256, shape, shared=shared) for shared in (False, True)}
        measured = compare(updates, shape, seconds, repeats)
        results.append({"core": "lstm", "hidden_size": 256, **measured, **padding})
    print(json.dumps({"benchmark": "pqn_speed", "versions": package_versions(), "threads": 1, "results": results}, indent=1))


if __name__ == "__main__":
    main()
